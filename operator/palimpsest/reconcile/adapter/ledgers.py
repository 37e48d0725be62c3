"""The operator's journals: one reader a data set, and the ledger actions of a plan."""

import threading

from palimpsest.api.budget import PrivacyBudget, PrivacyBudgetSpec
from palimpsest.ledger.entries import DataIdentity, LimitBody, Subject
from palimpsest.ledger.errors import LedgerError
from palimpsest.ledger.journal import Journal
from palimpsest.ledger.state import LedgerState
from palimpsest.privacy.gate import choose_order
from palimpsest.privacy.pricing import limit_of, planned_mechanisms
from palimpsest.reconcile.adapter.stores import Stores, UnknownStoreError
from palimpsest.reconcile.observed import LedgerTrouble
from palimpsest.reconcile.plan import Commit, LedgerAction, Open, Release, Reserve
from palimpsest.storage import AccessDenied, StoreError, probe_conditional_writes
from palimpsest.telemetry import metrics


def opening(spec: PrivacyBudgetSpec) -> tuple[DataIdentity, LimitBody, int]:
    """What the journal is opened with: the data's identity, the limit, the filter's order."""
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
    """Reads and appends; a failed read forgets the cached state, so doubt always re-reads."""

    def __init__(self, stores: Stores, cluster: str) -> None:
        self._stores = stores
        self._cluster = cluster
        self._journals: dict[tuple[str, str], Journal] = {}
        # A Journal is a snapshot with a position: threads of the work queue take turns.
        self._turn = threading.RLock()

    def state(self, budget: PrivacyBudget) -> LedgerState | LedgerTrouble:
        """The journal as it is now."""
        key = self._key(budget)
        try:
            with self._turn:
                return self._journal(budget).refresh()
        except UnknownStoreError as error:
            return LedgerTrouble("StoreUnknown", str(error))
        except AccessDenied as error:
            return LedgerTrouble("StoreAccessDenied", str(error))
        except StoreError as error:
            return LedgerTrouble("StoreUnavailable", str(error))
        except LedgerError as error:
            self._journals.pop(key, None)
            return LedgerTrouble("LedgerUnsound", str(error))

    def execute(self, budget: PrivacyBudget, action: LedgerAction) -> None:
        """Append what the action says. Raises LedgerError (Denied: does not fit) or StoreError."""
        with self._turn, metrics.ledger_operation(type(action).__name__.lower()):
            journal = self._journal(budget)
            self._append(journal, budget, action)

    def _append(self, journal: Journal, budget: PrivacyBudget, action: LedgerAction) -> None:
        match action:
            case Open():
                if not journal.refresh().is_open:
                    store = self._stores.at(budget.spec.dataset.storage.endpoint)
                    probe_conditional_writes(store, journal.location)
                data, limit, order = opening(budget.spec)
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

    def _journal(self, budget: PrivacyBudget) -> Journal:
        key = self._key(budget)
        if key not in self._journals:
            self._journals[key] = Journal(self._stores.at(key[0]), key[1])
        return self._journals[key]

    @staticmethod
    def _key(budget: PrivacyBudget) -> tuple[str, str]:
        return budget.spec.dataset.storage.endpoint, budget.spec.dataset.uri
