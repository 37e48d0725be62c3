"""The journal in the store: the sequence number is the lock, taken by a conditional write."""

import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Protocol

from pydantic import ValidationError

from palimpsest.ledger.entries import (
    COMPARTMENT,
    KINDS,
    VERSION,
    Basis,
    Body,
    Commit,
    Compartment,
    DataIdentity,
    Entry,
    Gate,
    GateOrder,
    HeadRef,
    Intent,
    LimitBody,
    Open,
    Release,
    Reserve,
    Start,
    Subject,
    Tighten,
    Tombstone,
    digest,
    invalid,
    parse,
)
from palimpsest.ledger.errors import EntryChanged, JournalShortened, JournalTampered, LedgerError
from palimpsest.ledger.identity import charge_id
from palimpsest.ledger.nesting import entry as entry_uri
from palimpsest.ledger.nesting import has_inside, location, refuse_inside
from palimpsest.ledger.reading import confirm, follow
from palimpsest.ledger.state import Charge, Head, LedgerState
from palimpsest.privacy.mechanisms import Mechanism
from palimpsest.storage import NotFound, StoreUnavailable, canonical_prefix

ATTEMPTS = 200


class _AroundError(LedgerError):
    """Of a journal whose data hold another journal's."""


class EntryStore(Protocol):
    """What the journal needs of a store."""

    def get(self, uri: str) -> bytes:
        """The object. Raises NotFound. May be called from several threads at once."""

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        """Create the object; False if it exists. Raises StoreUnavailable if unknown."""


class Watcher:
    """Is told what a journal meets; nothing depends on it."""

    def entry(self, body: Body, state: LedgerState) -> None:
        """An entry was read, or written by us; `state` is that after it."""

    def conflict(self) -> None:
        """Another writer took the sequence number first."""


def utcnow() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


class Journal:
    """One data set's journal. Not safe for threads: a reader has one position."""

    def __init__(
        self,
        store: EntryStore,
        data_uri: str,
        clock: Callable[[], datetime] = utcnow,
        watcher: Watcher | None = None,
    ) -> None:
        """Raises ValueError for a URI that names no one prefix."""
        self._store, self._clock, self._watcher = store, clock, watcher or Watcher()
        self.uri = canonical_prefix(data_uri)
        self.location = location(self.uri)
        self.state = LedgerState()
        self._digests: list[str] = []

    def refresh(self) -> LedgerState:
        """Read on from the last entry known. Raises LedgerError, StoreError.

        JournalTampered when the last entry known is gone or is another one.
        """
        if self.state.head is not None:
            confirm(self._store, self.uri, self.state.head)
        with closing(follow(self._get, self._next())) as entries:
            for data in entries:
                self._take(data)
        return self.state

    def check(self, anchors: Iterable[Head]) -> None:
        """Compare what was read with what others remember of it; asks the store nothing.

        Raises JournalShortened for an entry beyond the last, EntryChanged for another one.
        """
        for anchor in anchors:
            if anchor.sequence >= len(self._digests):
                raise JournalShortened(
                    f"entry {anchor.sequence} is remembered, but the journal {self._length()}"
                )
            if anchor.sequence < 0 or self._digests[anchor.sequence] != anchor.digest:
                raise EntryChanged(f"entry {anchor.sequence} is not the one that is remembered")

    def open(self, data: DataIdentity, limit: LimitBody, order: int) -> LedgerState:
        """Open the journal, or find it open; a lower epsilon tightens it. Raises LedgerError."""
        data = data.model_copy(update={"uri": self.uri})

        def build(state: LedgerState) -> Body | None:
            if not state.is_open:
                gate = Gate(kind="renyi-filter", orders=[GateOrder(order=order, delta=limit.delta)])
                return Open(
                    journal=self.uri,
                    data=data,
                    limit=limit,
                    compartments=[
                        Compartment(
                            id="default", epsilon=limit.epsilon, delta=limit.delta, gate=gate
                        )
                    ],
                )
            if state.data != data:
                raise LedgerError(
                    "data: the journal was opened with another format, field, record count or unit"
                )
            if Decimal(state.delta) != Decimal(limit.delta):
                raise LedgerError(f"delta: the journal was opened with {state.delta}; keep that")
            lower = Decimal(limit.epsilon) < Decimal(state.epsilon)
            return Tighten(epsilon=limit.epsilon) if lower else None

        if not self.refresh().is_open:
            refuse_inside(self._store, self.uri)
        with self._ended_if_around():
            state = self._append(build)
            self._refuse_around(state)
        return state

    def reserve(
        self,
        subject: Subject,
        task_digest: str,
        mechanism: Mechanism,
        restarts: int = 0,
        block_steps: int = 1,
    ) -> Charge:
        """Set the worst case aside; a charge that stands is found again. Raises Denied."""
        identity = charge_id(self.uri, subject.namespace, subject.kind, subject.name, task_digest)

        def build(state: LedgerState) -> Body | None:
            known = state.charges.get(identity)
            if known is not None and known.status != "released":
                if (known.mechanism, known.restarts, known.block_steps) != (
                    mechanism,
                    restarts,
                    block_steps,
                ):
                    raise LedgerError("charge: reserved before with other parameters")
                if known.active and known.subject.cluster != subject.cluster:
                    raise LedgerError(
                        f"charge: held by cluster {known.subject.cluster}; it must be committed or "
                        "released there first"
                    )
                return None
            if state.head is None:
                raise LedgerError("the journal is not open")
            if not state.tombstoned:
                # Whoever opened it may have died, or found no store, before it could look.
                self._refuse_around(state)
            return Reserve(
                charge=identity,
                compartment="default",
                slot=None,
                head=HeadRef(sequence=state.head.sequence, digest=state.head.digest),
                subject=subject,
                taskDigest=task_digest,
                mechanism=mechanism,
                restarts=restarts,
                blockSteps=block_steps,
                cost=state.price(mechanism),
                accountant="palimpsest/1",
            )

        with self._ended_if_around():
            return self._append(build).charge(identity)

    def start(self, charge: str, attempt: int) -> Charge:
        """Fence an attempt. Raises LedgerError if it, or a later one, started before."""
        return self._append(lambda _: Start(charge=charge, attempt=attempt)).charge(charge)

    def intent(self, charge: str, attempt: int, block: int, steps: int) -> Charge:
        """Say that a block is about to be executed; call it before. Raises LedgerError."""

        def build(state: LedgerState) -> Body:
            known = state.charge(charge)
            return Intent(
                charge=charge,
                attempt=attempt,
                block=block,
                steps=steps,
                cost=state.intent_cost(known, steps),
            )

        return self._append(build).charge(charge)

    def commit(self, charge: str, basis: Basis) -> Charge:
        """Settle a charge; one that is settled stays as it is. Raises LedgerError."""

        def build(state: LedgerState) -> Body | None:
            known = state.charge(charge)
            if known.status == "committed":
                return None
            # What was published without all its intents (a journal that was set back) costs all.
            settled = "full" if basis == "completed" and not known.covered else basis
            cost = known.cost if settled == "full" else known.intended_cost
            return Commit(charge=charge, cost=cost, basis=settled)

        return self._append(build).charge(charge)

    def release(self, charge: str, basis: str) -> Charge:
        """Give a reservation back. Raises LedgerError if it started."""

        def build(state: LedgerState) -> Body | None:
            released = state.charge(charge).status == "released"
            return None if released else Release(charge=charge, basis=basis)

        return self._append(build).charge(charge)

    def tombstone(self, basis: str) -> LedgerState:
        """End the budget."""
        return self._append(lambda state: None if state.tombstoned else Tombstone(basis=basis))

    def _refuse_around(self, state: LedgerState) -> None:
        """Raises _AroundError if a prefix inside has a journal of its own; until a charge stands.

        What would be inside an open journal is refused when it is opened, so that once is enough.
        """
        if not state.charges and has_inside(self._store, self.uri):
            raise _AroundError(f"uri: a prefix inside {self.uri} has a journal of its own")

    @contextmanager
    def _ended_if_around(self) -> Iterator[None]:
        """End the budget where the block finds it to be around another's data."""
        try:
            yield
        except _AroundError:
            self.tombstone("nested")
            raise

    def _append(self, build: Callable[[LedgerState], Body | None]) -> LedgerState:
        """Decide on the newest state, take the next sequence number, repeat if it was taken.

        After an answer that was lost the entry is read back: its nonce says whose it is.
        """
        nonce = secrets.token_hex(16)
        for _ in range(ATTEMPTS):
            state = self.refresh()
            try:
                body = build(state)
            except ValidationError as error:
                raise invalid(error) from error
            if body is None:
                return state
            after = state.after(body)
            entry = Entry(
                version=VERSION,
                sequence=self._next(),
                previous=state.head.digest if state.head else None,
                kind=KINDS[type(body)],
                time=self._clock().strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                nonce=nonce,
                totals={COMPARTMENT: after.totals()},
                body=body,
            )
            data = entry.to_bytes()
            parse(data)
            if self._put(self._entry(entry.sequence), data):
                self._take(data)
                return self.state
            self._watcher.conflict()
        raise StoreUnavailable(f"{self.location}: {ATTEMPTS} writers in a row were faster")

    def _put(self, uri: str, data: bytes) -> bool:
        try:
            if self._store.put_if_absent(uri, data):
                return True
        except StoreUnavailable as unknown:
            # Perhaps written, perhaps not; only the store can say.
            try:
                return self._store.get(uri) == data
            except NotFound:
                raise unknown from None
        # "It exists" may be the echo of our own write, sent again below us.
        try:
            return self._store.get(uri) == data
        except NotFound:
            return False

    def _take(self, data: bytes) -> None:
        try:
            entry = parse(data)
        except LedgerError as error:
            raise LedgerError(f"{self._entry(self._next())}: {error}") from error
        entry_digest = digest(data)
        state = self.state.apply(entry, entry_digest)
        if state.data is None or state.data.uri != self.uri:
            raise JournalTampered(f"{self.location}: holds the journal of other data")
        self.state = state
        self._digests.append(entry_digest)
        self._watcher.entry(entry.body, state)

    def _length(self) -> str:
        return f"ends with entry {len(self._digests) - 1}" if self._digests else "is empty"

    def _get(self, sequence: int) -> bytes:
        return self._store.get(self._entry(sequence))

    def _next(self) -> int:
        return self.state.head.sequence + 1 if self.state.head else 0

    def _entry(self, sequence: int) -> str:
        return entry_uri(self.uri, sequence)
