"""What a journal says: a pure replay that checks every rule at every entry."""

from dataclasses import dataclass, field, replace
from decimal import Decimal
from heapq import nlargest
from typing import Literal

from immutables import Map

from palimpsest.ledger.entries import (
    COMPARTMENT,
    Basis,
    Body,
    Commit,
    DataIdentity,
    Entry,
    Intent,
    Open,
    Release,
    Reserve,
    Start,
    Subject,
    Tighten,
    Tombstone,
    Totals,
)
from palimpsest.ledger.errors import Denied, JournalTampered, LedgerError
from palimpsest.ledger.identity import charge_id
from palimpsest.privacy.gate import cost_of_steps, renyi_cost, rho
from palimpsest.privacy.mechanisms import (
    DiscreteGaussian,
    Mechanism,
    PoissonSubsampledGaussian,
    worst_steps,
)
from palimpsest.storage import canonical_prefix

Status = Literal["reserved", "started", "committed", "released"]


@dataclass(frozen=True)
class Head:
    """The last entry."""

    sequence: int
    digest: str


@dataclass(frozen=True)
class Charge:
    """One charge. `cost` is what is reserved, or what was committed in the end (units).

    `reserved`, `started` and `settled` are the sequence numbers of its last `reserve`, of its last
    `start` and of its `commit`; `reserved_at` is the time that the `reserve` gives (RFC 3339).
    `blocks` counts the blocks intended so far, each once; `next_block` is the one that its present
    attempt must intend next, None before its first.
    """

    id: str
    status: Status
    cost: int
    subject: Subject
    task_digest: str
    mechanism: Mechanism
    restarts: int
    block_steps: int
    reserved: int
    reserved_at: str = ""
    attempts: int = 0
    blocks: int = 0
    next_block: int | None = None
    intended_steps: int = 0
    intended_cost: int = 0
    basis: Basis | None = None
    started: int | None = None
    settled: int | None = None

    @property
    def active(self) -> bool:
        """Neither settled nor given back."""
        return self.status in ("reserved", "started")

    @property
    def covered(self) -> bool:
        """Whether a whole run was intended: all steps but those that restarts repeat."""
        if isinstance(self.mechanism, DiscreteGaussian):
            return self.intended_steps >= 1
        return self.intended_steps >= self.mechanism.steps - self.restarts * self.block_steps


@dataclass(frozen=True)
class LedgerState:
    """The journal up to `head`."""

    head: Head | None = None
    data: DataIdentity | None = None
    epsilon: str = "0"
    delta: str = "0"
    order: int = 0
    limit_units: int = 0
    committed: int = 0
    reserved: int = 0
    # Shared between states: an entry costs the same however many charges there are.
    charges: Map[str, Charge] = field(default_factory=Map)
    tombstoned: bool = False

    @property
    def is_open(self) -> bool:
        """Whether there is an `open` entry."""
        return self.head is not None

    @property
    def _next(self) -> int:
        """The sequence number of the entry whose body is being applied."""
        return self.head.sequence + 1 if self.head else 0

    @property
    def left(self) -> int:
        """Units that a reservation may still take."""
        return max(0, self.limit_units - self.committed - self.reserved)

    def price(self, mechanism: Mechanism) -> int:
        """Units that a reservation of the mechanism takes."""
        return renyi_cost(mechanism, self.order)

    def fits(self, mechanism: Mechanism) -> bool:
        """Whether a reservation of the mechanism would still be granted, were it the next entry."""
        return not self.tombstoned and self.price(mechanism) <= self.left

    def latest(self, count: int) -> list[Charge]:
        """The charges reserved last, the newest first."""
        return nlargest(count, self.charges.values(), key=lambda charge: charge.reserved)

    def intent_cost(self, charge: Charge, steps: int) -> int:
        """Units that a block of `steps` adds to what a charge has intended so far."""
        total = cost_of_steps(charge.mechanism, _intended_steps(charge, steps), self.order)
        return total - charge.intended_cost

    def charge(self, identity: str) -> Charge:
        """The charge. Raises LedgerError if the journal holds none of that id."""
        try:
            return self.charges[identity]
        except KeyError:
            raise LedgerError("charge: the journal holds no reservation of this id") from None

    def totals(self) -> Totals:
        """What an entry after this state carries."""
        return Totals(committed=self.committed, reserved=self.reserved)

    def after(self, body: Body) -> "LedgerState":
        """The state after a body, its head unchanged. Raises LedgerError, Denied if illegal."""
        if isinstance(body, Open):
            return self._open(body)
        if not self.is_open:
            raise LedgerError("the journal is not open: its first entry must be `open`")
        match body:
            case Tighten():
                return self._tighten(body)
            case Reserve():
                return self._reserve(body)
            case Start():
                return self._start(body)
            case Intent():
                return self._intent(body)
            case Commit():
                return self._commit(body)
            case Release():
                return self._release(body)
            case Tombstone():
                return replace(self, tombstoned=True)

    def apply(self, entry: Entry, digest: str) -> "LedgerState":
        """The state after a stored entry. Raises JournalTampered if it does not follow."""
        expected = (0, None) if self.head is None else (self.head.sequence + 1, self.head.digest)
        if (entry.sequence, entry.previous) != expected:
            raise JournalTampered(f"entry {entry.sequence} does not follow the one before it")
        try:
            state = self.after(entry.body)
        except LedgerError as error:
            raise JournalTampered(f"entry {entry.sequence}: {error}") from error
        if dict(entry.totals) != {COMPARTMENT: state.totals()}:
            raise JournalTampered(f"entry {entry.sequence}: totals do not add up")
        if isinstance(entry.body, Reserve):
            dated = replace(state.charges[entry.body.charge], reserved_at=entry.time)
            state = replace(state, charges=state.charges.set(dated.id, dated))
        return replace(state, head=Head(entry.sequence, digest))

    def _open(self, body: Open) -> "LedgerState":
        if self.is_open:
            raise LedgerError("the journal is open already")
        compartment = body.compartments[0]
        gate = compartment.gate.orders[0]
        same = (compartment.epsilon, compartment.delta, gate.delta)
        if same != (body.limit.epsilon, body.limit.delta, body.limit.delta):
            raise LedgerError("compartments: version 1 gives the one compartment the whole limit")
        if body.journal != body.data.uri or not _is_canonical(body.journal):
            raise LedgerError("journal: must be the data's own URI in its canonical form")
        if Decimal(body.limit.delta) * body.data.records >= 1:
            raise LedgerError("limit.delta: must be below 1/records")
        return replace(
            self,
            data=body.data,
            epsilon=body.limit.epsilon,
            delta=body.limit.delta,
            order=gate.order,
            limit_units=_allowed(body.limit.epsilon, body.limit.delta, gate.order),
        )

    def _tighten(self, body: Tighten) -> "LedgerState":
        if Decimal(body.epsilon) >= Decimal(self.epsilon):
            raise LedgerError(f"epsilon: {body.epsilon} is not below the limit {self.epsilon}")
        allowed = _allowed(body.epsilon, self.delta, self.order)
        spent = self.committed + self.reserved
        if spent > allowed:
            raise LedgerError(
                f"epsilon: {body.epsilon} is less than was given out already "
                f"({_percent(spent, allowed)} of what it allows); release reservations first"
            )
        return replace(self, epsilon=body.epsilon, limit_units=allowed)

    def _reserve(self, body: Reserve) -> "LedgerState":
        if self.tombstoned:
            raise Denied("the budget was ended: nothing more can be reserved")
        known = self.charges.get(body.charge)
        if known is not None and known.status != "released":
            raise LedgerError("charge: reserved already")
        if self.head is None or (body.head.sequence, body.head.digest) != (
            self.head.sequence,
            self.head.digest,
        ):
            raise LedgerError("head: not the entry before this one")
        subject = body.subject
        if self.data is None or body.charge != charge_id(
            self.data.uri, subject.namespace, subject.kind, subject.name, body.taskDigest
        ):
            raise LedgerError("charge: not the hash of journal, subject and task")
        records = getattr(body.mechanism, "records", self.data.records)
        if records != self.data.records:
            raise LedgerError(f"mechanism.records: must be the declared {self.data.records}")
        if body.cost != self.price(body.mechanism):
            raise LedgerError("cost: not the mechanism's cost at the gate's order")
        if not self.fits(body.mechanism):
            raise Denied(
                f"the reservation needs {_percent(body.cost, self.limit_units)} of the gate; "
                f"{_percent(self.left, self.limit_units)} is left"
            )
        charge = Charge(
            id=body.charge,
            status="reserved",
            cost=body.cost,
            subject=subject,
            task_digest=body.taskDigest,
            mechanism=body.mechanism,
            restarts=body.restarts,
            block_steps=body.blockSteps,
            reserved=self._next,
        )
        return self._with(charge, reserved=body.cost)

    def _start(self, body: Start) -> "LedgerState":
        charge = self._active(body.charge)
        if body.attempt != charge.attempts + 1:
            raise LedgerError(f"attempt: {body.attempt} was started before or is out of turn")
        if body.attempt > charge.restarts + 1:
            raise LedgerError(f"attempt: only {charge.restarts} restarts were reserved")
        return self._with(
            replace(
                charge,
                status="started",
                attempts=body.attempt,
                started=self._next,
                next_block=None,
            )
        )

    def _intent(self, body: Intent) -> "LedgerState":
        charge = self._active(body.charge)
        if charge.attempts == 0 or body.attempt != charge.attempts:
            raise LedgerError("attempt: not the one that started last")
        _check_block(charge, body.block)
        if body.steps > charge.block_steps:
            raise LedgerError(f"steps: a block has at most {charge.block_steps}")
        steps = _intended_steps(charge, body.steps)
        if steps > worst_steps(charge.mechanism):
            raise LedgerError("steps: more than was reserved")
        if body.cost != self.intent_cost(charge, body.steps):
            raise LedgerError("cost: not the block's cost at the gate's order")
        total = charge.intended_cost + body.cost
        return self._with(
            replace(
                charge,
                blocks=max(charge.blocks, body.block + 1),
                next_block=body.block + 1,
                intended_steps=steps,
                intended_cost=total,
            )
        )

    def _commit(self, body: Commit) -> "LedgerState":
        charge = self._active(body.charge)
        if charge.attempts == 0:
            raise LedgerError("charge: never started; release it instead")
        if body.basis == "completed" and not charge.covered:
            raise LedgerError("basis: completed, but not all its steps were intended")
        expected = charge.cost if body.basis == "full" else charge.intended_cost
        if body.cost != expected:
            raise LedgerError(f"cost: a commit on basis {body.basis} must cost {expected} units")
        settled = replace(
            charge, status="committed", cost=body.cost, basis=body.basis, settled=self._next
        )
        return self._with(settled, reserved=-charge.cost, committed=body.cost)

    def _release(self, body: Release) -> "LedgerState":
        charge = self._active(body.charge)
        if charge.attempts:
            raise LedgerError("charge: started; what started is committed, never released")
        return self._with(replace(charge, status="released"), reserved=-charge.cost)

    def _active(self, identity: str) -> Charge:
        charge = self.charge(identity)
        if not charge.active:
            raise LedgerError(f"charge: {charge.status} already")
        return charge

    def _with(self, charge: Charge, reserved: int = 0, committed: int = 0) -> "LedgerState":
        return replace(
            self,
            charges=self.charges.set(charge.id, charge),
            reserved=self.reserved + reserved,
            committed=self.committed + committed,
        )


def _intended_steps(charge: Charge, block: int) -> int:
    """Steps intended after a block; a histogram's one step counts once, however often retried."""
    if isinstance(charge.mechanism, PoissonSubsampledGaussian):
        return charge.intended_steps + block
    return block


def _check_block(charge: Charge, block: int) -> None:
    """An attempt begins where a checkpoint can be, then takes one block after the other.

    Raises LedgerError. A histogram is one block.
    """
    if isinstance(charge.mechanism, DiscreteGaussian):
        fits, expected = block == 0 and charge.next_block is None, "0, once an attempt"
    elif charge.next_block is None:
        fits, expected = block <= charge.blocks, f"at most {charge.blocks}"
    else:
        fits, expected = block == charge.next_block, f"{charge.next_block}"
    if not fits:
        raise LedgerError(f"block: {block} is out of turn; it must be {expected}")


def _is_canonical(uri: str) -> bool:
    try:
        return canonical_prefix(uri) == uri
    except ValueError:
        return False


def _allowed(epsilon: str, delta: str, order: int) -> int:
    if not 0 < Decimal(delta) < 1:
        raise LedgerError("delta: must lie between 0 and 1")
    allowed = rho(Decimal(epsilon), Decimal(delta), order)
    if allowed <= 0:
        raise LedgerError(f"epsilon: {epsilon} allows nothing at order {order}")
    return allowed


def _percent(cost: int, limit: int) -> str:
    return f"{100 * cost / limit:.1f}%" if limit > 0 else "all"
