"""A budget, its journal in a folder, and the operator's reader of it."""

from pathlib import Path

from palimpsest.api.budget import LedgerHead, PrivacyBudget, PrivacyBudgetStatus
from palimpsest.api.config import LeaseConfig, OperatorConfig, StoreIdentity
from palimpsest.ledger import Journal, LedgerState
from palimpsest.reconcile.adapter.ledgers import Ledgers
from palimpsest.reconcile.adapter.stores import Stores
from palimpsest.reconcile.observed import (
    BudgetView,
    Custody,
    LedgerTrouble,
    Meta,
)
from palimpsest.storage import S3Store
from unit.ledger.folder_store import FolderStore

URI = "s3://private/chat/"
ENDPOINT = "https://store.example"
DIGEST = "sha256:" + "a" * 64


def budget(
    status: PrivacyBudgetStatus | None = None,
    uri: str = URI,
    epsilon: str = "8",
) -> PrivacyBudget:
    """A budget of 15,000 records."""
    storage = {"endpoint": ENDPOINT, "auth": {"type": "Secret", "secretName": "keys"}}
    spec = {
        "dataset": {"uri": uri, "records": 15_000, "storage": storage},
        "limit": {"epsilon": epsilon, "delta": "1e-5"},
        "plan": {"histograms": [{"noiseMultiplier": "10"}]},
        "custodian": {"namespace": "custody"},
        "releases": {"uri": "s3://releases/chat/", "storage": storage},
        "allowedModels": [{"uri": "s3://models/tiny/", "digest": DIGEST}],
    }
    parsed = PrivacyBudget.model_validate({"spec": spec})
    return parsed.model_copy(update={"status": status})


def remembering(state: LedgerState) -> PrivacyBudget:
    """A budget whose status shows the journal's head."""
    assert state.head is not None
    head = LedgerHead(sequence=state.head.sequence, digest=state.head.digest)
    return budget(PrivacyBudgetStatus(head=head))


def view(of: PrivacyBudget, ledger: LedgerState | LedgerTrouble) -> BudgetView:
    """What the control loop sees of the budget."""
    meta = Meta("PrivacyBudget", "", "chat", "uid", 3, deleting=False)
    return BudgetView(meta, of, Custody(True), ledger)


class FolderStores(Stores):
    """Every endpoint is one folder."""

    def __init__(self, store: FolderStore) -> None:
        identity = StoreIdentity(endpoint=ENDPOINT, credentials="/none")
        lease = LeaseConfig(namespace="palimpsest")
        super().__init__(OperatorConfig(stage_image="stage", lease=lease, stores=[identity]))
        self.store = store

    def at(self, endpoint: str) -> S3Store:  # noqa: ARG002
        return self.store  # type: ignore[return-value]


def reader(store: FolderStore) -> Ledgers:
    """An operator that has just started."""
    return Ledgers(FolderStores(store), "one")


def paths(store: FolderStore, uri: str = URI) -> list[Path]:
    """The journal's entries as files."""
    folder = store.path(Journal(store, uri).location)
    return sorted(folder.glob("*.json")) if folder.exists() else []
