"""PrivacyBudget: the custodian's word on how much may ever be learnt from one data set."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints

from .base import ApiModel, DeltaDecimal, Duration, ObjectName, PositiveDecimal, StoreUri
from .common import (
    ClaimCache,
    CommonStatus,
    LabelMap,
    Location,
    ModelRef,
    Quantity,
    ShortText,
    Storage,
    Toleration,
    immutable,
    list_map,
    rule,
)


class Dataset(ApiModel):
    """The private data's identity."""

    uri: StoreUri = Field(description="Prefix that holds the private records; immutable.")
    format: Literal["JSONL", "Parquet"] = Field(
        "JSONL",
        description="JSONL: one JSON object a line of files .jsonl. Parquet: one row a record of "
        "files .parquet.",
    )
    text_field: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")] = Field(
        "instruction", description="Field of a record that holds the instruction."
    )
    records: Annotated[int, Field(ge=100, le=1_000_000_000)] = Field(
        description="Declared number of records. Public: it sets the sampling rate."
    )
    privacy_unit: Literal["Record"] = Field(
        "Record", description="What is protected: one record added or removed."
    )
    storage: Storage


class Limit(ApiModel):
    """Everything ever released from this budget is (epsilon, delta)-differentially private."""

    epsilon: PositiveDecimal = Field(
        description="Total epsilon, a decimal string; may only be lowered."
    )
    delta: DeltaDecimal = Field(
        description="Total delta, for example 1e-6; below 1/records; immutable."
    )


class PlannedTraining(ApiModel):
    """A training the custodian expects."""

    kind: Literal["Training"] = Field("Training", description="A training.")
    epsilon: PositiveDecimal = Field(description="Epsilon of that training alone.")
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        description="Expected batch size."
    )
    steps: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        description="Steps, those that restarts may repeat included."
    )
    count: Annotated[int, Field(ge=1, le=100)] = Field(1, description="How many such trainings.")


class PlannedHistogram(ApiModel):
    """A resampling histogram the custodian expects."""

    kind: Literal["Histogram"] = Field("Histogram", description="A histogram.")
    noise_multiplier: PositiveDecimal = Field(
        description="Standard deviation of the noise on each count."
    )
    count: Annotated[int, Field(ge=1, le=100)] = Field(1, description="How many such histograms.")


class Plan(ApiModel):
    """What the custodian expects to run; fixes the Renyi filter's order when the journal opens."""

    trainings: list[PlannedTraining] = Field(
        default_factory=list, max_length=16, description="Trainings to expect."
    )
    histograms: list[PlannedHistogram] = Field(
        default_factory=list, max_length=16, description="Resampling histograms to expect."
    )


class NodeLabel(ApiModel):
    """A node label that tenants may select by."""

    key: ShortText = Field(description="The label's key.")
    values: list[ShortText] = Field(
        min_length=1, max_length=64, description="The values they may choose from."
    )


class CustodyCompute(ApiModel):
    """What stages in the custodian's namespace may use; they may choose from these lists only."""

    node_selector: LabelMap = Field(
        default_factory=dict,
        description="Added to every stage's pods in custody; wins over a tenant's choice.",
    )
    node_labels: list[NodeLabel] = Field(
        default_factory=list,
        max_length=32,
        json_schema_extra=list_map("key"),
        description="Node labels that a tenant's nodeSelector may name; empty: none.",
    )
    tolerations: list[Toleration] = Field(
        default_factory=list,
        max_length=16,
        description="Tolerations that tenants may give, each as written here; empty: none.",
    )
    priority_class_names: list[ObjectName] = Field(
        default_factory=list,
        max_length=16,
        description="PriorityClasses that tenants may name; empty: none.",
    )
    runtime_class_names: list[ObjectName] = Field(
        default_factory=list,
        max_length=16,
        description="RuntimeClasses that tenants may name; empty: none. The first is given to "
        "every pod that names none.",
    )
    queue_name: ObjectName | None = Field(
        None,
        description="Kueue LocalQueue of the custodian's namespace that every private stage goes "
        "through.",
    )
    image_pull_secrets: list[ObjectName] = Field(
        default_factory=list, max_length=8, description="Secrets to pull the stage's image with."
    )
    cache: ClaimCache | None = Field(
        None,
        description="Where models are kept from pod to pod, records never; the chart's value "
        "custody.namespaces[].cacheClaim must name the same claim. Tenants cannot choose one.",
    )
    max_resources: Annotated[dict[ShortText, Quantity], Field(max_length=16)] = Field(
        default_factory=dict,
        description="Cap of a container's requests and limits, by resource name; a cap of cpu or "
        "memory is also the limit of a container that gives none, and one of memory or "
        "ephemeral-storage the limit whatever a tenant gives.",
    )
    scratch: Quantity | None = Field(
        None,
        description="Least size limit of a private pod's scratch volume: room for the model and "
        "the largest private object with ease, or a tenant's own choice tells its size.",
    )
    max_replicas: Annotated[int, Field(ge=1, le=64)] = Field(
        1,
        description="Pods that one training may run in. They send one another sums of records' "
        "gradients without encryption: allow several only where the network enforces "
        "NetworkPolicies (docs/distributed.md).",
    )


class Custodian(ApiModel):
    """Where private data may be read."""

    namespace: ObjectName = Field(
        description="The custodian's namespace; opts in by label palimpsest.dev/custody=granted."
    )
    service_account_name: ObjectName = Field(
        "private-data", description="Service account of the pods that read private data."
    )
    compute: CustodyCompute = Field(
        default_factory=CustodyCompute,
        description="What the pods of private stages may use; tenants choose within it.",
    )


class NamespaceSelector(ApiModel):
    """Namespaces by their labels."""

    match_labels: Annotated[dict[ShortText, ShortText], Field(min_length=1, max_length=16)] = Field(
        description="Labels that a namespace must carry, all of them."
    )


class AllowedNamespaces(ApiModel):
    """Namespaces whose PrivateGenerators and SyntheticDatasets may charge this budget."""

    names: list[ObjectName] = Field(
        default_factory=list, max_length=256, description="Their names."
    )
    selector: NamespaceSelector | None = Field(
        None,
        description="Labels, beside those named; who may label namespaces may then let them in. "
        "Neither names nor selector: none.",
    )


class PrivacyBudgetSpec(ApiModel):
    """What may be spent on one private data set, once, for ever."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                *immutable("PrivacyBudget", "dataset", "plan"),
                rule(
                    "self.limit.delta == oldSelf.limit.delta",
                    "spec.limit.delta is immutable: every charge was accounted at it",
                ),
                rule(
                    "double(self.limit.epsilon) <= double(oldSelf.limit.epsilon)",
                    "spec.limit.epsilon may only be lowered",
                ),
                rule(
                    "double(self.limit.delta) * double(self.dataset.records) < 1.0",
                    "spec.limit.delta must be below 1/records",
                ),
            ]
        }
    )

    dataset: Dataset
    limit: Limit
    plan: Plan | None = Field(
        None,
        description="Expected charges; default: two equal trainings and two histograms that fill "
        "the limit.",
    )
    custodian: Custodian
    releases: Location = Field(description="Where releases go: the only way out of custody.")
    allowed_namespaces: AllowedNamespaces = Field(
        default_factory=AllowedNamespaces,
        description="Whose PrivateGenerators and SyntheticDatasets may charge this budget.",
    )
    allowed_models: list[ModelRef] = Field(
        min_length=1,
        max_length=64,
        description="Generators and embedders that may run beside private data.",
    )
    reservation_timeout: Duration = Field(
        "24h",
        description="A stage that never started gives its reservation back after this long: a "
        "number and s, m, h or d.",
    )


class ChargeSummary(ApiModel):
    """One line of the budget's history."""

    id: ShortText = Field(description="The charge's id in the journal.")
    subject: ShortText = Field(description="The resource that is charged: kind/namespace/name.")
    mechanism: ShortText = Field(description="What is released, in words.")
    state: Literal["Reserved", "Started", "Committed", "Released"] = Field(
        description="Reserved, Started, Committed (spent) or Released (given back)."
    )
    share: ShortText = Field(description="Part of the gate, a decimal from 0 to 1.")


class Shares(ApiModel):
    """Parts of the gate; they add up to one."""

    committed: ShortText = Field(description="Spent for good.")
    reserved: ShortText = Field(
        description="Set aside for work that is not settled, at its worst case."
    )
    left: ShortText = Field(description="What is left to reserve.")


class LedgerHead(ApiModel):
    """The journal's last entry as last read: a journal that no longer holds it is tampered with."""

    sequence: int = Field(description="Its number, from 0.")
    digest: ShortText = Field(description="SHA-256 of its bytes.")


class PrivacyBudgetStatus(CommonStatus):
    """The journal's state, cached."""

    journal: ShortText = Field("", description="The data that the journal is of.")
    head: LedgerHead | None = None
    gate_order: int | None = Field(
        None, description="Integer order of the Renyi filter, fixed when the journal was opened."
    )
    shares: Shares | None = None
    guarantee: Annotated[str, StringConstraints(max_length=512)] = Field(
        "", description="The statement that holds for all that was ever released from the budget."
    )
    charges: list[ChargeSummary] = Field(
        default_factory=list, max_length=20, description="The latest charges."
    )


class PrivacyBudget(ApiModel):
    """The resource."""

    kind: ClassVar[str] = "PrivacyBudget"
    plural: ClassVar[str] = "privacybudgets"
    short_names: ClassVar[list[str]] = ["pb"]
    scope: ClassVar[Literal["Cluster", "Namespaced"]] = "Cluster"
    columns: ClassVar[list[dict[str, Any]]] = [
        {"name": "Epsilon", "type": "string", "jsonPath": ".spec.limit.epsilon"},
        {"name": "Delta", "type": "string", "jsonPath": ".spec.limit.delta"},
        {"name": "Committed", "type": "string", "jsonPath": ".status.shares.committed"},
        {"name": "Reserved", "type": "string", "jsonPath": ".status.shares.reserved"},
        {"name": "Left", "type": "string", "jsonPath": ".status.shares.left"},
        {"name": "Status", "type": "string", "jsonPath": ".status.summary"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]

    spec: PrivacyBudgetSpec
    status: PrivacyBudgetStatus | None = None
