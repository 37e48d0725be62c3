"""Random operations on a journal against a model that only counts."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from palimpsest.ledger import Charge, Journal, LedgerError, charge_id
from palimpsest.ledger.entries import Basis
from palimpsest.privacy.gate import cost_of_steps, rho
from unit.ledger.folder_store import DATA, LIMIT, ORDER, URI, FolderStore, subject, task, training

BLOCK, RESTARTS = 8, 1
SIZES = (20, 40)
NAMES = ("a", "b", "c", "d", "e")
# Noise at which the journal holds two or three of these trainings.
NOISE = {20: "0.64", 40: "0.65"}
EPSILONS = ("9", "8", "7", "6", "3")


@dataclass
class Modelled:
    """One charge, counted by hand."""

    steps: int
    status: str = "reserved"
    attempts: int = 0
    intended: int = 0
    blocks: int = 0
    expected: int | None = None
    held: int = 0


class LedgerMachine(RuleBasedStateMachine):
    """Every operation either does what the model says or is refused where the model refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = FolderStore(self.folder)
        # Two readers whose knowledge differs: whoever acts must catch up first.
        self.journals = [Journal(self.store, URI) for _ in range(2)]
        self.charges: dict[str, Modelled] = {}
        self.epsilon, self.ended, self.most_committed = "8", False, 0

    @initialize()
    def open(self) -> None:
        self.journals[0].open(DATA, LIMIT, ORDER)

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def cost(self, size: int, steps: int) -> int:
        return cost_of_steps(training(NOISE[size], size), steps, ORDER)

    def allowed(self, epsilon: str) -> int:
        return rho(Decimal(epsilon), Decimal("0.00001"), ORDER)

    def held(self) -> int:
        return sum(charge.held for charge in self.charges.values())

    def expect(self, legal: bool, operation: Callable[[], object]) -> None:
        try:
            operation()
        except LedgerError:
            assert not legal
        else:
            assert legal

    @rule(who=st.integers(0, 1), name=st.sampled_from(NAMES), size=st.sampled_from(SIZES))
    def reserve(self, who: int, name: str, size: int) -> None:
        known = self.charges.get(name)
        standing = known is not None and known.status != "released"
        cost = self.cost(size, size)
        fits = not self.ended and self.held() + cost <= self.allowed(self.epsilon)
        legal = known.steps == size if standing and known is not None else fits
        self.expect(
            legal,
            lambda: self.journals[who].reserve(
                subject(name), task(), training(NOISE[size], size), RESTARTS, BLOCK
            ),
        )
        if legal and not standing:
            self.charges[name] = Modelled(size, held=cost)

    @rule(who=st.integers(0, 1), name=st.sampled_from(NAMES), attempt=st.integers(1, 3))
    def start(self, who: int, name: str, attempt: int) -> None:
        known = self.charges.get(name)
        legal = (
            known is not None
            and known.status in ("reserved", "started")
            and attempt == known.attempts + 1 <= RESTARTS + 1
        )
        self.expect(legal, lambda: self.journals[who].start(self.id(name), attempt))
        if legal and known is not None:
            known.status, known.attempts, known.expected = "started", attempt, None

    @rule(
        who=st.integers(0, 1),
        name=st.sampled_from(NAMES),
        attempt=st.integers(1, 2),
        ahead=st.sampled_from((0, 0, 0, -1, 1)),
        steps=st.integers(0, BLOCK + 1),
    )
    def intent(self, who: int, name: str, attempt: int, ahead: int, steps: int) -> None:
        known = self.charges.get(name)
        due = 0
        if known is not None:
            due = known.blocks if known.expected is None else known.expected
        block = due + ahead
        in_turn = block >= 0 and (
            ahead == 0 or (ahead < 0 and known is not None and known.expected is None)
        )
        legal = (
            known is not None
            and known.status == "started"
            and attempt == known.attempts
            and in_turn
            and 1 <= steps <= BLOCK
            and known.intended + steps <= known.steps
        )
        self.expect(legal, lambda: self.journals[who].intent(self.id(name), attempt, block, steps))
        if legal and known is not None:
            known.intended += steps
            known.blocks, known.expected = max(known.blocks, block + 1), block + 1

    @rule(
        who=st.integers(0, 1),
        name=st.sampled_from(NAMES),
        basis=st.sampled_from(["completed", "disrupted", "full"]),
    )
    def commit(self, who: int, name: str, basis: Basis) -> None:
        known = self.charges.get(name)
        legal = known is not None and known.status in ("started", "committed")
        self.expect(legal, lambda: self.journals[who].commit(self.id(name), basis))
        if legal and known is not None and known.status == "started":
            known.status = "committed"
            covered = known.intended >= known.steps - RESTARTS * BLOCK
            whole = basis == "full" or (basis == "completed" and not covered)
            steps = known.steps if whole else known.intended
            known.held = self.cost(known.steps, steps)

    @rule(who=st.integers(0, 1), name=st.sampled_from(NAMES))
    def release(self, who: int, name: str) -> None:
        known = self.charges.get(name)
        legal = known is not None and known.status in ("reserved", "released")
        self.expect(legal, lambda: self.journals[who].release(self.id(name), "unneeded"))
        if legal and known is not None:
            known.status, known.held = "released", 0

    @rule(who=st.integers(0, 1), epsilon=st.sampled_from(EPSILONS))
    def reopen(self, who: int, epsilon: str) -> None:
        lower = float(epsilon) < float(self.epsilon)
        legal = not lower or self.held() <= self.allowed(epsilon)
        limit = LIMIT.model_copy(update={"epsilon": epsilon})
        self.expect(legal, lambda: self.journals[who].open(DATA, limit, ORDER))
        if legal and lower:
            self.epsilon = epsilon

    @rule(dice=st.integers(0, 19))
    def end(self, dice: int) -> None:
        if dice == 0:
            self.journals[0].tombstone("budget deleted")
            self.ended = True

    @invariant()
    def never_more_than_the_limit_and_committed_never_shrinks(self) -> None:
        state = Journal(self.store, URI).refresh()
        assert state.committed + state.reserved == self.held()
        assert state.committed + state.reserved <= state.limit_units
        assert state.committed >= self.most_committed
        self.most_committed = state.committed
        assert {charge.subject.name: view(charge) for charge in state.charges.values()} == {
            name: (m.status, m.attempts, m.intended) for name, m in self.charges.items()
        }

    def id(self, name: str) -> str:
        who = subject(name)
        return charge_id(URI, who.namespace, who.kind, who.name, task())


def view(charge: Charge) -> tuple[str, int, int]:
    return charge.status, charge.attempts, charge.intended_steps


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
