"""The task document: all that a stage's pod is told. Carries no secret and nothing private.

It travels in the Job's pod template (environment variable PALIMPSEST_TASK), so a Job that exists
has one task, and a task's digest names the artifact it makes.
"""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field

from .annotation import TokenPrices
from .audit import AuditParameters
from .base import ApiModel, Digest, PositiveDecimal, UnitDecimal
from .common import Encryption
from .endpoints import BaseUrl
from .evaluation import Gates
from .generator import Lora, Optimizer, Schedule
from .rewards import BuiltIn

TASK_VARIABLE = "PALIMPSEST_TASK"
# A training on several processes; beside the task, which says what is computed and not by whom.
REPLICAS_VARIABLE = "PALIMPSEST_REPLICAS"
PROCESSES_VARIABLE = "PALIMPSEST_PROCESSES"
LEADER_VARIABLE = "PALIMPSEST_LEADER"
# What the log lines of a stage outside custody bear; beside the task, which is the same for all.
UID_VARIABLE = "PALIMPSEST_UID"
TRACE_VARIABLE = "PALIMPSEST_TRACE_ID"
CREDENTIALS_ROOT = "/var/run/secrets/palimpsest/stores"
TOKEN_FILE = "token"  # noqa: S105 - a file's name
SCRATCH = "/scratch"
CACHE_VARIABLE = "PALIMPSEST_CACHE"
CACHE = "/var/cache/palimpsest"
CLAIMS = "/var/lib/palimpsest/claims"
HUB_TOKEN = "HF_TOKEN"  # noqa: S105 - a key's name
ENDPOINT_KEY = "API_KEY"
# Bytes that the scratch volume may hold before the kubelet evicts the pod.
SCRATCH_VARIABLE = "PALIMPSEST_SCRATCH_BYTES"
# The stages that read private records: in the custodian's namespace, with a charge, without a word.
PRIVATE_STAGES = ("train", "histogram")


class MountedKeys(ApiModel):
    """Keys of a Secret, mounted at CREDENTIALS_ROOT/<secret>/."""

    type: Literal["Secret"] = "Secret"
    secret: str


class WebIdentity(ApiModel):
    """A role that the pod assumes with a token of its service account.

    The token is projected to CREDENTIALS_ROOT/<folder>/TOKEN_FILE, one folder an audience.
    `token_endpoint` None means AWS's of the region.
    """

    type: Literal["WorkloadIdentity"] = "WorkloadIdentity"
    role_arn: str
    audience: str
    token_endpoint: str | None

    @property
    def folder(self) -> str:
        """A name no Secret can have: those begin with a letter or a digit."""
        return f"_{hashlib.sha256(self.audience.encode()).hexdigest()[:16]}"


class StoreAccess(ApiModel):
    """A store as a pod reaches it. `ca_bundle` is PEM; None: the public authorities."""

    endpoint: str
    region: str
    path_style: bool
    ca_bundle: str | None = None
    sse: Encryption | None = None
    credentials: Annotated[MountedKeys | WebIdentity, Field(discriminator="type")]


class ModelInput(ApiModel):
    """A model folder, pinned by the digest of its palimpsest-model.json."""

    kind: Literal["model"] = "model"
    store: str
    uri: str
    digest: Digest


class HubModelInput(ApiModel):
    """A commit of a hub's repository; the digest is of the listing of its files.

    `token_secret` is mounted as a store's keys are, and has the key HUB_TOKEN.
    """

    kind: Literal["hub-model"] = "hub-model"
    repository: str
    revision: str
    digest: Digest
    token_secret: str | None = None


class ClaimModelInput(ApiModel):
    """A folder of a claim that is mounted at CLAIMS/<claim>/; the digest likewise."""

    kind: Literal["claim-model"] = "claim-model"
    claim: str
    path: str
    digest: Digest


class ArtifactInput(ApiModel):
    """An earlier stage's artifact: the URI and digest of its manifest."""

    kind: Literal["artifact"] = "artifact"
    store: str
    uri: str
    digest: Digest


class FileInput(ApiModel):
    """One public file."""

    kind: Literal["file"] = "file"
    store: str
    uri: str
    digest: Digest


class PrivateInput(ApiModel):
    """The private records. No digest, count or size: those would confirm a record."""

    kind: Literal["private"] = "private"
    store: str
    uri: str
    format: Literal["JSONL", "Parquet"]
    text_field: str


class EndpointInput(ApiModel):
    """A server that answers by OpenAI's protocol, and its name of the model. No digest pins it."""

    kind: Literal["endpoint"] = "endpoint"
    base_url: BaseUrl = Field(alias="baseURL")
    model: str


AnyModelInput = ModelInput | HubModelInput | ClaimModelInput
Input = Annotated[
    AnyModelInput | ArtifactInput | FileInput | PrivateInput | EndpointInput,
    Field(discriminator="kind"),
]


class EndpointAccess(ApiModel):
    """How an endpoint is asked, which makes no other work.

    `secret` is mounted as a store's keys are, and has the key ENDPOINT_KEY. `ca_bundle` is PEM;
    None: the public authorities.
    """

    secret: str | None = None
    ca_bundle: str | None = None
    concurrency: int
    requests_per_minute: int | None = None
    timeout_seconds: float
    patience_seconds: float
    prices: TokenPrices | None = None


class ChargeRef(ApiModel):
    """The reservation that a private stage must find in the journal before it reads a record."""

    id: str
    journal: str = Field(
        description="URI of the private data; the journal's place follows from it."
    )
    store: str
    compartment: str = "default"


class TrainParameters(ApiModel):
    """DP-SGD with LoRA. Worst case executed: steps + restarts * block_steps."""

    stage: Literal["train"] = "train"
    prompt: str
    lora: Lora
    records: int
    expected_batch_size: int
    micro_batch_size: int
    steps: int
    block_steps: int
    restarts: int
    optimizer: Optimizer = Optimizer()
    learning_rate: PositiveDecimal
    schedule: Schedule = Schedule()
    clipping_norm: PositiveDecimal
    noise_multiplier: PositiveDecimal
    max_length: int
    precision: Literal["bfloat16", "float32"]
    gradient_checkpointing: bool = False
    audit: AuditParameters | None = None


class SampleParameters(ApiModel):
    """Unconditional sampling from the generator after its public prompt."""

    stage: Literal["sample"] = "sample"
    count: int
    shards: int
    batch_size: int
    temperature: PositiveDecimal
    top_p: UnitDecimal
    top_k: int | None = None
    max_length: int
    stop_tokens: list[str] = Field(default_factory=list)


class ClusterParameters(ApiModel):
    """k-means over the synthetic pool's embeddings."""

    stage: Literal["cluster"] = "cluster"
    clusters: int


class HistogramParameters(ApiModel):
    """One vote a private record for its nearest centroid, discrete Gaussian noise on each count."""

    stage: Literal["histogram"] = "histogram"
    records: int
    noise_multiplier: PositiveDecimal
    restarts: int


class SelectParameters(ApiModel):
    """Draw `size` instructions, cluster by cluster, in the noisy histogram's proportions."""

    stage: Literal["select"] = "select"
    size: int


class AnnotateParameters(ApiModel):
    """Answer each selected instruction. Without a temperature the likeliest tokens are taken."""

    stage: Literal["annotate"] = "annotate"
    system_prompt: str
    chat_template: str | None = None
    max_new_tokens: int
    batch_size: int
    answers: int = 1
    temperature: PositiveDecimal | None = None
    top_p: UnitDecimal = "1.0"


class CardParameters(ApiModel):
    """Put the data set and its card together."""

    stage: Literal["card"] = "card"
    name: str
    guarantee: str


class PruneParameters(ApiModel):
    """Delete the inputs' files from the output's store, but for those named `keep`.

    Their manifests stay: they say what was made, and that it need not be made again.
    """

    stage: Literal["prune"] = "prune"
    keep: list[str]


class RewardParameters(ApiModel):
    """A built-in reward by name, or a model, an artifact or an endpoint among the inputs.

    `max_new_tokens` are of an endpoint's verdict.
    """

    built_in: BuiltIn | None = None
    chat_template: str | None = None
    max_new_tokens: int | None = None


class EvaluationParameters(ApiModel):
    """What is measured on the public prompts among the inputs."""

    count: int
    max_new_tokens: int
    judge: RewardParameters | None = None
    gates: Gates = Gates()


class TuningParameters(ApiModel):
    """How any model is tuned outside custody; `lora_rank` None trains every weight."""

    batch_size: int
    learning_rate: PositiveDecimal
    lora_rank: int | None
    checkpoint_interval: int
    chat_template: str | None = None


class RewardModelParameters(TuningParameters):
    """A reward model from pairs that are ranked already."""

    stage: Literal["reward"] = "reward"
    epochs: int
    max_length: int
    held_out_share: UnitDecimal


class AlignParameters(TuningParameters):
    """What every method of alignment is told."""

    merge: bool
    evaluation: EvaluationParameters | None = None
    guarantee: str


class SftParameters(AlignParameters):
    """Supervised fine-tuning."""

    stage: Literal["sft"] = "sft"
    epochs: int
    max_length: int
    packing: bool


class DpoParameters(AlignParameters):
    """Direct preference optimisation; `reward` None: by pairs that are ranked already."""

    stage: Literal["dpo"] = "dpo"
    epochs: int
    max_length: int
    beta: PositiveDecimal
    reward: RewardParameters | None


class RlhfParameters(AlignParameters):
    """Reinforcement learning on the policy's own answers; `batch_size` prompts in a step.

    `micro_batch_size` completions pass at once; None: all.
    """

    stage: Literal["rlhf"] = "rlhf"
    algorithm: Literal["GRPO", "RLOO"]
    steps: int
    completions: int
    micro_batch_size: int | None = None
    max_new_tokens: int
    kl_coefficient: PositiveDecimal
    max_kl: PositiveDecimal
    reward: RewardParameters


Parameters = Annotated[
    TrainParameters
    | SampleParameters
    | ClusterParameters
    | HistogramParameters
    | SelectParameters
    | AnnotateParameters
    | CardParameters
    | PruneParameters
    | RewardModelParameters
    | SftParameters
    | DpoParameters
    | RlhfParameters,
    Field(discriminator="stage"),
]


class Subject(ApiModel):
    """The resource that a task is a stage of."""

    namespace: str
    kind: str
    name: str


class Output(ApiModel):
    """Where a stage publishes: `<uri>manifest.json`, files under `<uri>attempts/<attempt>/`."""

    store: str
    uri: str


class Task(ApiModel):
    """One stage's work; `endpoints` says how the inputs of those names are asked."""

    version: Literal[1] = 1
    subject: Subject
    parameters: Parameters
    stores: dict[str, StoreAccess]
    inputs: dict[str, Input]
    output: Output
    charge: ChargeRef | None = None
    endpoints: dict[str, EndpointAccess] = Field(default_factory=dict)


def canonical_json(value: Any) -> bytes:
    """The one byte string of a JSON value: sorted keys, no spaces, UTF-8."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def sha256_digest(data: bytes) -> str:
    """`sha256:<hex>` of the bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def work_digest(subject: Subject, parameters: Parameters, inputs: dict[str, Input]) -> str:
    """Digest of what a stage computes; how stores are entered and who pays are left out.

    The charge's id and the output's place are derived from it, so the same resource applied again
    finds its charge and its artifact.
    """
    return sha256_digest(
        canonical_json(
            {
                "subject": subject.model_dump(by_alias=True),
                "parameters": parameters.model_dump(by_alias=True),
                "inputs": {
                    name: value.model_dump(by_alias=True, exclude={"store", "token_secret"})
                    for name, value in inputs.items()
                },
            }
        )
    )
