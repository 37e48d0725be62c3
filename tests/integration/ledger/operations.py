"""Every operation of the ledger: what comes before it, and how the product does it and does it
again after a crash."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from faults.behaviour import once
from faults.proxy import Call, Fault, Rule
from integration.ledger.ground import Memory
from palimpsest.ledger import Journal, LedgerState, LimitBody
from palimpsest.ledger.identity import charge_id
from palimpsest.storage import S3Store, probe_conditional_writes
from unit.ledger.folder_store import DATA, LIMIT, ORDER, subject, task, training

STEPS, BLOCK, RESTARTS = 40, 8, 1
TIGHTER = LimitBody(epsilon="6", delta=LIMIT.delta)

Deed = Callable[[Journal, S3Store | Memory], Any]


@dataclass(frozen=True)
class Operation:
    """`again` is what a restarted process does; None: the same."""

    after: tuple[str, ...]
    deed: Deed
    again: Deed | None = None


def operate(name: str, store: S3Store | Memory, uri: str, again: bool = False) -> None:
    """Do an operation in a process that knows nothing but the store."""
    operation = OPERATIONS[name]
    deed = operation.again if again and operation.again else operation.deed
    deed(Journal(store, uri), store)


def prepare(name: str, store: S3Store, uri: str) -> None:
    """Bring a journal to where the operation is next."""
    memory = Memory()
    for before in OPERATIONS[name].after:
        operate(before, memory, uri)
    for at, data in memory.objects.items():
        # Others open journals beside this one: their mark may lie above it already.
        assert store.put_if_absent(at, data) or not at.endswith(".json")


@dataclass(frozen=True)
class Spot:
    """A call as every run of an operation makes it: of which object, for the how-manieth time.

    Not by its number alone: reads ahead arrive in any order.
    """

    method: str
    place: str
    nth: int

    @property
    def entry(self) -> bool:
        """Whether it writes an entry."""
        return self.method == "PUT" and self.place.endswith(".json")

    def rule(self, uri: str, fault: Fault) -> Rule:
        """The fault befalls this call of a run on that journal."""
        wanted = (self.method, self.place)
        return once(lambda call: (call.method, _place(call, uri)) == wanted, fault, self.nth)


def spots(calls: list[Call], uri: str) -> list[Spot]:
    """The calls of a run that every run makes.

    Reads beyond the journal's next entry are left out: they are a guess that may not be made.
    """
    places = [(call.method, _place(call, uri)) for call in calls]
    last = max(place for method, place in places if Spot(method, place, 0).entry)
    seen: Counter[tuple[str, str]] = Counter()
    found = []
    for method, place in places:
        if not (place.endswith(".json") and place > last):
            found.append(Spot(method, place, seen[method, place]))
        seen[method, place] += 1
    return found


def _place(call: Call, uri: str) -> str:
    *_, name, _ = uri.split("/")
    return call.path.replace(name, "*")


def summary(state: LedgerState) -> dict[str, Any]:
    """What must be the same however often the operation was begun."""
    return {
        "limit": (state.epsilon, state.delta, state.order, state.limit_units),
        "spent": (state.committed, state.reserved),
        "ended": state.tombstoned,
        # Not by id: that is a hash of the journal's own address too.
        "charges": [
            (charge.subject, charge.status, charge.cost, charge.basis, charge.mechanism)
            for charge in state.charges.values()
        ],
    }


def _charge(journal: Journal) -> str:
    one = subject()
    return charge_id(journal.uri, one.namespace, one.kind, one.name, task())


def _open(journal: Journal, store: S3Store | Memory) -> None:
    if not journal.refresh().is_open:
        probe_conditional_writes(store, journal.location)
    journal.open(DATA, LIMIT, ORDER)


def _tighten(journal: Journal, _: object) -> None:
    journal.open(DATA, TIGHTER, ORDER)


def _reserve(journal: Journal, _: object) -> None:
    journal.reserve(subject(), task(), training(steps=STEPS), RESTARTS, BLOCK)


def _start(journal: Journal, _: object) -> None:
    charge = _charge(journal)
    journal.start(charge, journal.refresh().charge(charge).attempts + 1)


def _intent(journal: Journal, _: object) -> None:
    charge = _charge(journal)
    journal.intent(charge, journal.refresh().charge(charge).attempts, 0, BLOCK)


def _another_attempt(journal: Journal, store: S3Store | Memory) -> None:
    _start(journal, store)
    _intent(journal, store)


def _commit(journal: Journal, _: object) -> None:
    journal.commit(_charge(journal), "full")


def _release(journal: Journal, _: object) -> None:
    journal.release(_charge(journal), "never-started")


def _tombstone(journal: Journal, _: object) -> None:
    journal.tombstone("ended")


OPERATIONS = {
    "open": Operation((), _open),
    "tighten": Operation(("open",), _tighten),
    "reserve": Operation(("open",), _reserve),
    "start": Operation(("open", "reserve"), _start),
    "intent": Operation(("open", "reserve", "start"), _intent, _another_attempt),
    "commit": Operation(("open", "reserve", "start", "intent"), _commit),
    "release": Operation(("open", "reserve"), _release),
    "tombstone": Operation(("open", "reserve"), _tombstone),
}
