"""PrivateGenerator: a language model fine-tuned on private instructions with DP-SGD."""

from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints

from .audit import Audit, AuditStatus
from .base import ApiModel, FractionDecimal, PositiveDecimal
from .common import (
    TTL_DESCRIPTION,
    CommonStatus,
    LocalRef,
    ModelRef,
    ShortText,
    StageStatus,
    TrainingCompute,
    TtlSeconds,
    immutable,
    list_map,
    rule,
)

DEFAULT_STEPS = 24


class GeneratorPrivacy(ApiModel):
    """What this training may cost."""

    epsilon: PositiveDecimal = Field(
        description="Epsilon of this training alone at the budget's delta, worst case included; at "
        "least 0.3. The noise multiplier is calibrated to it. See the share in the status: "
        "epsilons do not add, shares do."
    )


class Lora(ApiModel):
    """Low-rank adapters (Hu et al. 2021): only these are trained."""

    rank: Annotated[int, Field(ge=1, le=256)] = Field(
        4, description="Rank of each adapter; more parameters carry more noise."
    )
    alpha: Annotated[int, Field(ge=1, le=1024)] = Field(
        8, description="Adapters are scaled by alpha / rank."
    )
    target_modules: list[ShortText] = Field(
        default_factory=list,
        max_length=32,
        description="Names of linear layers; empty: every linear layer of the decoder's blocks.",
    )


class Optimizer(ApiModel):
    """What makes an update of the noisy mean gradient; it spends nothing."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.type == 'SGD' || self.momentum == '0'",
                    "momentum goes with type SGD: AdamW has its own (0.9)",
                )
            ]
        }
    )

    type: Literal["AdamW", "SGD"] = Field(
        "AdamW", description="AdamW (Loshchilov and Hutter 2019) or SGD."
    )
    weight_decay: FractionDecimal = Field(
        "0",
        description="Part of the adapters' weights, times the learning rate, taken off at each "
        'step, apart from the gradient; at "0" AdamW is Adam.',
    )
    momentum: FractionDecimal = Field(
        "0", description="Of SGD: what stays of the last update's direction."
    )


class Schedule(ApiModel):
    """The learning rate over the steps; it spends nothing."""

    type: Literal["Constant", "Linear", "Cosine"] = Field(
        "Constant",
        description="After the warm-up: as it is, or down towards zero, which the step after the "
        "last would reach.",
    )
    warmup_steps: Annotated[int, Field(ge=0, le=100_000)] = Field(
        0, description="First steps, at a rate that rises evenly towards training.learningRate."
    )


class Training(ApiModel):
    """How DP-SGD runs. Every value is public."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!has(self.steps) || !has(self.epochs)",
                    "steps and epochs say the same: give one of them",
                ),
                rule(
                    "!has(self.steps) || !has(self.schedule) "
                    "|| self.schedule.warmupSteps < self.steps",
                    "schedule.warmupSteps must be below steps",
                ),
            ]
        }
    )

    prompt: Annotated[str, StringConstraints(max_length=512)] = Field(
        "", description="Public text before every instruction, in training and in sampling."
    )
    lora: Lora = Field(default_factory=Lora)
    expected_batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        256,
        description="Mean of the Poisson-sampled batch; the sampling rate is this over records.",
    )
    micro_batch_size: Annotated[int, Field(ge=1, le=4096)] = Field(
        32,
        description="Rows of one forward pass: memory and speed, no effect on the result beyond "
        "rounding. Of each padded length the last pass of a step is filled with dummies.",
    )
    steps: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None,
        description=f"Steps of DP-SGD; each costs privacy. {DEFAULT_STEPS} without epochs.",
    )
    epochs: PositiveDecimal | None = Field(
        None,
        description="In place of steps: how often each record is used in the mean; steps are "
        "epochs times the budget's records over expectedBatchSize, rounded up.",
    )
    optimizer: Optimizer = Field(default_factory=Optimizer)
    learning_rate: PositiveDecimal = Field(
        "0.003", description="The optimizer's; the highest, if there is a schedule."
    )
    schedule: Schedule = Field(default_factory=Schedule)
    clipping_norm: PositiveDecimal = Field("1", description="L2 bound of one record's gradient.")
    max_length: Annotated[int, Field(ge=8, le=8192)] = Field(
        64, description="Tokens of prompt and instruction together; longer records are cut."
    )
    precision: Literal["bfloat16", "float32"] = Field(
        "bfloat16", description="Of the frozen base weights; adapters are always float32."
    )
    gradient_checkpointing: bool = Field(
        False,
        description="Keep only the inputs of the decoder's blocks and compute the rest again in "
        "the backward pass: less memory, about a third more time, the same gradients.",
    )
    checkpoint_interval: Annotated[int, Field(ge=1, le=100_000)] = Field(
        8, description="Steps in a block: what a restart may repeat, and pay for again."
    )
    restarts: Annotated[int, Field(ge=0, le=10)] = Field(
        1, description="Times a disrupted attempt may resume; the worst case is reserved up front."
    )

    def steps_over(self, records: int) -> int:
        """Steps of a run without restarts, over the budget's declared records."""
        if self.epochs is None:
            return DEFAULT_STEPS if self.steps is None else self.steps
        return steps_of_epochs(Decimal(self.epochs), records, self.expected_batch_size)


def steps_of_epochs(epochs: Decimal, records: int, expected_batch_size: int) -> int:
    """Steps after which each of the declared records was in `epochs` batches in the mean."""
    return ceil(Fraction(epochs) * records / expected_batch_size)


class PrivateGeneratorSpec(ApiModel):
    """A generator of instructions distributed as the private ones."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": immutable(
                "PrivateGenerator", "budgetRef", "privacy", "baseModel", "training", "audit"
            )
        }
    )

    budget_ref: LocalRef = Field(description="The PrivacyBudget that pays.")
    privacy: GeneratorPrivacy
    base_model: ModelRef = Field(description="Causal language model; one of the budget's models.")
    training: Training = Field(default_factory=Training)
    audit: Audit | None = Field(
        None,
        description="Put the claim to the test on this very training; left out: no audit.",
    )
    compute: TrainingCompute = Field(default_factory=TrainingCompute)
    suspend: bool = Field(False, description="Start no new pod; a running one ends first.")
    ttl_seconds_after_finished: TtlSeconds | None = Field(None, description=TTL_DESCRIPTION)


class PrivateGeneratorStatus(CommonStatus):
    """How far the generator is and what it cost."""

    progress: ShortText = Field("", description="Steps done of all.")
    share: ShortText = Field(
        "", description="Part of the budget's gate that this generator holds or spent."
    )
    stages: list[StageStatus] = Field(
        default_factory=list,
        max_length=4,
        json_schema_extra=list_map("name"),
        description="The train stage.",
    )
    audit: AuditStatus | None = Field(None, description="What the audit could and did find.")
    receipt: Annotated[str, StringConstraints(max_length=512)] = Field(
        "", description="URI of the release's signed receipt."
    )


class PrivateGenerator(ApiModel):
    """The resource."""

    kind: ClassVar[str] = "PrivateGenerator"
    plural: ClassVar[str] = "privategenerators"
    short_names: ClassVar[list[str]] = ["pgen"]
    scope: ClassVar[Literal["Cluster", "Namespaced"]] = "Namespaced"
    columns: ClassVar[list[dict[str, Any]]] = [
        {"name": "Budget", "type": "string", "jsonPath": ".spec.budgetRef.name"},
        {"name": "Epsilon", "type": "string", "jsonPath": ".spec.privacy.epsilon"},
        {"name": "Share", "type": "string", "jsonPath": ".status.share"},
        {"name": "Progress", "type": "string", "jsonPath": ".status.progress"},
        {"name": "Status", "type": "string", "jsonPath": ".status.summary"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]

    spec: PrivateGeneratorSpec
    status: PrivateGeneratorStatus | None = None
