"""The operator's journals: one reader a data set, and the ledger actions of a plan."""

import threading
from typing import Literal

from palimpsest.api.budget import PrivacyBudget, PrivacyBudgetSpec
from palimpsest.ledger.entries import DataIdentity, LimitBody, Subject
from palimpsest.ledger.errors import Denied, EntryChanged, JournalShortened, LedgerError
from palimpsest.ledger.journal import Journal
from palimpsest.ledger.nesting import refuse_below
from palimpsest.ledger.state import Head, LedgerState
from palimpsest.privacy.gate import choose_order
from palimpsest.privacy.pricing import limit_of, planned_mechanisms
from palimpsest.reconcile.adapter.counting import ChargeCounter
from palimpsest.reconcile.adapter.stores import Stores, UnknownStoreError
from palimpsest.reconcile.observed import LedgerTrouble
from palimpsest.reconcile.plan import Commit, LedgerAction, Open, Release, Reserve
from palimpsest.storage import AccessDenied, StoreError, canonical_prefix, probe_conditional_writes
from palimpsest.telemetry import budgets

Unsound = Literal[
    "JournalShorterThanStatus",
    "JournalShorterThanRemembered",
    "JournalBehindReceipt",
    "JournalEntryChanged",
    "LedgerUnsound",
]

_REMEDY = (
    "Nothing is reserved from it until the store holds the journal as it was: restore its entries "
    "from the store's versions or a copy."
)


class UnsoundError(LedgerError):
    """The journal cannot be trusted, for a reason from a closed set."""

    def __init__(self, reason: Unsound, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def opening(spec: PrivacyBudgetSpec) -> tuple[DataIdentity, LimitBody, int]:
    """What the journal is opened with: the data's identity, the limit, the filter's order.

    Raises ValueError where the plan or the limit leaves no order.
    """
    dataset, limit = spec.dataset, spec.limit
    data = DataIdentity(
        uri=dataset.uri,
        format=dataset.format,
        textField=dataset.text_field,
        records=dataset.records,
        privacyUnit=dataset.privacy_unit,
    )
    order = choose_order(planned_mechanisms(spec), limit_of(spec))
    return data, LimitBody(epsilon=limit.epsilon, delta=limit.delta), order


class Ledgers:
    """Reads and appends. What was once read of a journal must stay in it."""

    def __init__(self, stores: Stores, cluster: str) -> None:
        self._stores = stores
        self._cluster = cluster
        self._journals: dict[tuple[str, str], Journal] = {}
        # The last entries known of journals that then were found unsound.
        self._remembered: dict[tuple[str, str], Head] = {}
        # What receipts named that the journal did not hold.
        self._witnessed: dict[tuple[str, str], Head] = {}
        # A Journal is a snapshot with a position: threads of the work queue take turns at each. Not
        # at all of them, or a store that hangs would stop the budgets of the others.
        self._turns: dict[tuple[str, str], threading.Lock] = {}
        self._making = threading.Lock()

    def state(self, budget: PrivacyBudget) -> LedgerState | LedgerTrouble:
        """The journal as it is now, if it holds all that the status and we remember of it."""
        dataset = budget.spec.dataset
        try:
            uri = canonical_prefix(dataset.uri)
        except ValueError as error:
            return LedgerTrouble("UriInvalid", str(error))
        try:
            with self._turn((dataset.storage.endpoint, uri)):
                state = self._read(budget).state
            if not state.is_open:
                return self._nested(dataset.storage.endpoint, uri) or state
        except UnknownStoreError as error:
            return LedgerTrouble("StoreUnknown", str(error))
        except AccessDenied as error:
            return LedgerTrouble("StoreAccessDenied", str(error))
        except StoreError as error:
            return LedgerTrouble("StoreUnavailable", str(error))
        except UnsoundError as error:
            return LedgerTrouble(error.reason, f"{error}. {_REMEDY}", unsound=True)
        return state

    def witness(self, budget: PrivacyBudget, head: Head) -> None:
        """Trust the journal only once it holds the entry that a signed receipt names."""
        key = _key(budget)
        with self._turn(key):
            self._witnessed[key] = head

    def execute(self, budget: PrivacyBudget, action: LedgerAction) -> LedgerState:
        """Append what the action says; the journal with it.

        Raises LedgerError (Denied: does not fit) or StoreError.
        """
        with self._turn(_key(budget)), budgets.operation(type(action).__name__.lower(), Denied):
            journal = self._read(budget)
            self._append(journal, budget, action)
            return journal.state

    def _turn(self, key: tuple[str, str]) -> threading.Lock:
        """Held by whoever reads or writes the journal."""
        with self._making:
            return self._turns.setdefault(key, threading.Lock())

    def _append(self, journal: Journal, budget: PrivacyBudget, action: LedgerAction) -> None:
        match action:
            case Open():
                if not journal.state.is_open:
                    store = self._stores.at(budget.spec.dataset.storage.endpoint)
                    probe_conditional_writes(store, journal.location)
                try:
                    data, limit, order = opening(budget.spec)
                except ValueError as error:
                    raise LedgerError(str(error)) from error
                journal.open(data, limit, order)
            case Reserve():
                subject = Subject(cluster=self._cluster, **action.subject.model_dump())
                journal.reserve(
                    subject,
                    action.task,
                    action.mechanism,
                    restarts=action.restarts,
                    block_steps=action.block_steps,
                )
            case Commit():
                journal.commit(action.charge, action.basis)
            case Release():
                journal.release(action.charge, "never-started")

    def _read(self, budget: PrivacyBudget) -> Journal:
        """The journal, read to its end and held against memory. Raises UnsoundError, StoreError."""
        key = _key(budget)
        journal = self._newest(key)
        head = budget.status.head if budget.status else None
        if head is not None:
            anchor = Head(head.sequence, head.digest)
            _check(journal, anchor, "JournalShorterThanStatus", "In the budget's status")
        if key in self._remembered:
            anchor = self._remembered[key]
            _check(journal, anchor, "JournalShorterThanRemembered", "By this operator")
        if key in self._witnessed:
            _check(journal, self._witnessed[key], "JournalBehindReceipt", "In a receipt")
        self._journals[key] = journal
        return journal

    def _newest(self, key: tuple[str, str]) -> Journal:
        journal = self._journals.get(key)
        if journal is not None:
            try:
                journal.refresh()
            except LedgerError:
                # What is wrong is said after a reading from the first entry, whoever reads.
                del self._journals[key]
                if journal.state.head is not None:
                    self._remembered[key] = journal.state.head
            else:
                return journal
        counter = ChargeCounter()
        journal = Journal(self._stores.at(key[0]), key[1], watcher=counter)
        try:
            journal.refresh()
        except LedgerError as error:
            raise UnsoundError("LedgerUnsound", str(error)) from error
        counter.begin()
        return journal

    def _nested(self, endpoint: str, uri: str) -> LedgerTrouble | None:
        """Why a journal that is not open never will be."""
        try:
            refuse_below(self._stores.at(endpoint), uri)
        except LedgerError as error:
            return LedgerTrouble("UriNested", str(error))
        return None


def _key(budget: PrivacyBudget) -> tuple[str, str]:
    """What a journal is known by: its store, and the data's prefix however it is spelt."""
    dataset = budget.spec.dataset
    return dataset.storage.endpoint, canonical_prefix(dataset.uri)


def _check(journal: Journal, anchor: Head, shorter: Unsound, where: str) -> None:
    try:
        journal.check([anchor])
    except JournalShortened as error:
        raise UnsoundError(shorter, f"{where}, {error}") from error
    except EntryChanged as error:
        raise UnsoundError("JournalEntryChanged", f"{where}, {error}") from error
