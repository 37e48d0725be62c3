"""What the adapter saw. Plain values: the pure functions read nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from securesystemslib.signer import SSlibKey

from palimpsest.api.alignment import AlignmentRun
from palimpsest.api.budget import PrivacyBudget
from palimpsest.api.common import Storage
from palimpsest.api.dataset import SyntheticDataset
from palimpsest.api.generator import PrivateGenerator
from palimpsest.api.outcomes import Outcome
from palimpsest.api.shortage import Shortage
from palimpsest.ledger.state import LedgerState


@dataclass(frozen=True)
class Meta:
    """The part of an object's metadata that decides anything.

    `abandoned`: its release is given up, so that it can go although its store is gone for good.
    `trace_id` is of its generation's trace; empty where traces are off.
    """

    kind: str
    namespace: str
    name: str
    uid: str
    generation: int
    deleting: bool
    finalizers: tuple[str, ...] = ()
    abandoned: bool = False
    trace_id: str = ""


@dataclass(frozen=True)
class Pod:
    """A stage's pod. `trouble` is why it cannot start, from its own status; empty if it can.

    `shortage` is what it says it had too little of for a model.
    """

    name: str
    phase: str
    outcome: Outcome | None
    trouble: tuple[str, str] | None
    shortage: Shortage | None = None


@dataclass(frozen=True)
class Job:
    """A stage's Job. `failure` says which rule of its failure policy ended it.

    `compute` is the digest of what its pods were given, `queue` the Kueue queue that it waits in,
    `trouble` why its pods cannot be made. `unserved` is the Service that its pods lack to find one
    another, as a manifest. `asked` is the digest of the manifest that it was made by, `ran`
    whether any of its pods began.
    """

    namespace: str
    name: str
    stage: str
    attempt: int
    state: Literal["Active", "Succeeded", "Failed"]
    failure: Literal["", "Disrupted", "Retryable", "Program"]
    deleting: bool
    suspended: bool
    started: str
    ended: str
    ended_at: datetime | None
    pods: tuple[Pod, ...] = ()
    compute: str = ""
    queue: str = ""
    trouble: tuple[str, str] | None = None
    unserved: Mapping[str, Any] | None = None
    asked: str = ""
    ran: bool = False

    @property
    def outcome(self) -> Outcome | None:
        """The last pod's word, if one left any.

        Where the program failed, of several pods that which says so: the others were stopped.
        """
        words = [pod.outcome for pod in self.pods if pod.outcome]
        if self.failure == "Program":
            words = [word for word in words if word.of_the_program] or words
        return words[-1] if words else None

    @property
    def shortage(self) -> Shortage | None:
        """What the pods that ran out of resources say they had too little of."""
        if self.outcome is not Outcome.OUT_OF_RESOURCES:
            return None
        return next((pod.shortage for pod in self.pods if pod.shortage), None)


@dataclass(frozen=True)
class LedgerTrouble:
    """Why the journal could not be read, or, where it is `unsound`, cannot be trusted."""

    reason: str
    message: str
    unsound: bool = False


@dataclass(frozen=True)
class StoreTrouble:
    """Why an object could not be read."""

    reason: str
    message: str


@dataclass(frozen=True)
class Look:
    """A question to an object store: an object's bytes, or whether it is there."""

    endpoint: str
    uri: str
    whole: bool = True


class NotObservedError(Exception):
    """A pure function needs the answer to `look` first; the adapter asks and calls again."""

    def __init__(self, look: Look) -> None:
        super().__init__(look.uri)
        self.look = look


@dataclass(frozen=True)
class Objects:
    """Answers from object stores: bytes (b"" for "it is there"), None for absent, or trouble."""

    answers: Mapping[Look, bytes | StoreTrouble | None] = field(default_factory=dict)

    def read(self, storage: Storage, uri: str) -> bytes | StoreTrouble | None:
        """The object's bytes. Raises NotObservedError if the adapter has not asked yet."""
        return self._answer(Look(storage.endpoint, uri))

    def exists(self, storage: Storage, uri: str) -> bool | StoreTrouble:
        """Whether the object is there. Raises NotObservedError likewise."""
        answer = self._answer(Look(storage.endpoint, uri, whole=False))
        return answer if isinstance(answer, StoreTrouble) else answer is not None

    def _answer(self, look: Look) -> bytes | StoreTrouble | None:
        if look not in self.answers:
            raise NotObservedError(look)
        return self.answers[look]


@dataclass(frozen=True)
class Custody:
    """Whether the budget's custodian lets stages into the namespace it names."""

    granted: bool
    message: str = ""


@dataclass(frozen=True)
class BudgetView:
    """A budget with its journal; `tenant` are the labels of the namespace that asks for it."""

    meta: Meta
    budget: PrivacyBudget
    custody: Custody
    ledger: LedgerState | LedgerTrouble
    tenant: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class GeneratorView:
    """A generator as others refer to it."""

    meta: Meta
    generator: PrivateGenerator


@dataclass(frozen=True)
class DatasetView:
    """A data set as others refer to it."""

    meta: Meta
    dataset: SyntheticDataset


@dataclass(frozen=True)
class ReceiptKeys:
    """The public keys whose receipts are accepted, or why none can be signed now."""

    public: tuple[SSlibKey, ...] = ()
    trouble: str = ""


@dataclass(frozen=True)
class Settings:
    """The operator's own configuration that shapes children."""

    stage_image: str
    cluster: str
    image_pull_policy: str = "IfNotPresent"
    hub_endpoint: str = ""
    log_level: str = ""


@dataclass(frozen=True)
class ObservedBudget:
    """All that the reconcile of a PrivacyBudget reads."""

    view: BudgetView
    objects: Objects


@dataclass(frozen=True)
class ObservedGenerator:
    """All that the reconcile of a PrivateGenerator reads."""

    meta: Meta
    generator: PrivateGenerator
    budget: BudgetView | None
    jobs: tuple[Job, ...]
    objects: Objects
    settings: Settings
    keys: ReceiptKeys


@dataclass(frozen=True)
class ObservedDataset:
    """All that the reconcile of a SyntheticDataset reads.

    `private` has the URIs of private data by their budgets' names, where files are named that must
    not lie among them.
    """

    meta: Meta
    dataset: SyntheticDataset
    generator: GeneratorView | None
    budget: BudgetView | None
    jobs: tuple[Job, ...]
    objects: Objects
    settings: Settings
    keys: ReceiptKeys
    private: Mapping[str, str]


@dataclass(frozen=True)
class ObservedAlignment:
    """All that the reconcile of an AlignmentRun reads; `private` as of a SyntheticDataset."""

    meta: Meta
    run: AlignmentRun
    dataset: DatasetView | None
    budget: BudgetView | None
    jobs: tuple[Job, ...]
    objects: Objects
    settings: Settings
    private: Mapping[str, str]
