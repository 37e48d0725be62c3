"""AlignmentRun: a model aligned on a synthetic data set.

It sees no private data and spends nothing."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from .base import ApiModel, PositiveDecimal
from .common import (
    CHECKPOINTS,
    TTL_DESCRIPTION,
    ArtifactRef,
    CheckpointInterval,
    CommonStatus,
    Compute,
    LocalRef,
    Location,
    ShortText,
    StageStatus,
    TtlSeconds,
    immutable,
    list_map,
    rule,
)
from .evaluation import Evaluation
from .models import PublicModel
from .preferences import Preferences
from .rewards import Reward

METHODS = ("SFT", "DPO", "RLHF")


class Sft(ApiModel):
    """Supervised fine-tuning on the annotated instructions; loss on answers only."""

    tuning: Literal["LoRA", "Full"] = Field(
        "LoRA",
        description="LoRA: adapters on every linear layer, the rest frozen. Full: every weight, in "
        "float32 with AdamW's two moments, 16 bytes a parameter; take a learning rate a tenth as "
        "high.",
    )
    epochs: Annotated[int, Field(ge=1, le=100)] = Field(1, description="Passes over the data set.")
    batch_size: Annotated[int, Field(ge=1, le=4096)] = Field(16, description="Pairs in a step.")
    learning_rate: PositiveDecimal = Field("0.0005", description="Peak of AdamW's schedule.")
    max_length: Annotated[int, Field(ge=16, le=32768)] = Field(
        128, description="Tokens of instruction and answer; longer pairs are cut."
    )
    lora_rank: Annotated[int, Field(ge=1, le=256)] = Field(
        8, description="Rank of the adapters; of no effect with tuning Full."
    )
    packing: bool = Field(
        False,
        description="Several pairs in one row of maxLength tokens, none of which sees another; "
        "batchSize then counts rows. Worth it where most pairs are much shorter than maxLength. "
        "Refused for models whose attention cannot keep them apart.",
    )
    checkpoint_interval: CheckpointInterval = Field(100, description=CHECKPOINTS)


class Dpo(ApiModel):
    """Direct preference optimisation (Rafailov et al. 2023) with LoRA against the base model."""

    beta: PositiveDecimal = Field(
        "0.1", description="How strongly the base model is held to; higher strays less."
    )
    epochs: Annotated[int, Field(ge=1, le=100)] = Field(1, description="Passes over the pairs.")
    batch_size: Annotated[int, Field(ge=1, le=4096)] = Field(16, description="Pairs in a step.")
    learning_rate: PositiveDecimal = Field("0.00005", description="Peak of AdamW's schedule.")
    max_length: Annotated[int, Field(ge=16, le=32768)] = Field(
        128, description="Tokens of instruction and answer; longer ones are cut."
    )
    lora_rank: Annotated[int, Field(ge=1, le=256)] = Field(8, description="Rank of the adapters.")
    checkpoint_interval: CheckpointInterval = Field(100, description=CHECKPOINTS)
    preferences: Preferences | None = Field(
        None,
        description="Pairs to learn from instead of the data set's; left out: of each row's "
        "`answers` (the data set's annotation.answers) the one that spec.reward ranks best against "
        "the one it ranks worst.",
    )


_MICRO_BATCHES = "microBatchSize must divide promptsPerStep * completionsPerPrompt"


class Rlhf(ApiModel):
    """Reinforcement learning from feedback with LoRA: the policy answers, the reward scores."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!has(self.microBatchSize) || self.promptsPerStep * self.completionsPerPrompt "
                    "% self.microBatchSize == 0",
                    _MICRO_BATCHES,
                )
            ]
        }
    )

    algorithm: Literal["GRPO", "RLOO"] = Field(
        "GRPO",
        description="What a completion is measured against. GRPO (Shao et al. 2024): mean and "
        "spread of its prompt's completions; KL is part of the loss. RLOO (Ahmadian et al. 2024): "
        "the mean of the others; KL is taken from the reward.",
    )
    steps: Annotated[int, Field(ge=1, le=100_000)] = Field(100, description="Updates.")
    prompts_per_step: Annotated[int, Field(ge=1, le=1024)] = Field(
        4, description="Instructions of the data set in a step."
    )
    completions_per_prompt: Annotated[int, Field(ge=2, le=64)] = Field(
        4, description="Answers that the policy samples to each, to be compared."
    )
    micro_batch_size: Annotated[int, Field(ge=1, le=65_536)] | None = Field(
        None,
        description="Completions in one forward and backward pass, a divisor of all in a step; "
        "left out: all of them. Fewer take less memory and more time; what is learnt is the same.",
    )
    max_new_tokens: Annotated[int, Field(ge=1, le=4096)] = Field(
        64, description="Tokens of a completion at most."
    )
    learning_rate: PositiveDecimal = Field("0.00001", description="Peak of AdamW's schedule.")
    kl_coefficient: PositiveDecimal = Field(
        "0.05", description="Weight of the KL divergence from the base model."
    )
    max_kl: PositiveDecimal = Field(
        "1",
        alias="maxKL",
        description="The run ends, with reason Diverged and without a model, when a step's mean KL "
        "for each token is above this.",
    )
    lora_rank: Annotated[int, Field(ge=1, le=256)] = Field(8, description="Rank of the adapters.")
    checkpoint_interval: CheckpointInterval = Field(20, description=CHECKPOINTS)

    @model_validator(mode="after")
    def _whole_micro_batches(self) -> Self:
        if self.prompts_per_step * self.completions_per_prompt % (self.micro_batch_size or 1):
            raise ValueError(_MICRO_BATCHES)
        return self


def _url(scoring: str) -> str:
    """Where an endpoint is, in CEL: with or without a slash at the end it is the same."""
    url = f"{scoring}.endpoint.baseURL.lowerAscii()"
    return f"({url} + ({url}.endsWith('/') ? '' : '/'))"


class AlignmentRunSpec(ApiModel):
    """How a model is aligned."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                *immutable(
                    "AlignmentRun",
                    "datasetRef",
                    "baseModel",
                    "method",
                    "sft",
                    "dpo",
                    "rlhf",
                    "reward",
                    "merge",
                    "evaluation",
                    "output",
                ),
                *(
                    rule(
                        f"self.method == '{method}' || !has(self.{method.lower()})",
                        f"spec.{method.lower()} goes with method {method}: remove it, or set "
                        f"spec.method: {method}",
                    )
                    for method in METHODS
                ),
                rule(
                    "self.method != 'SFT' || !has(self.reward)",
                    "spec.reward goes with the other methods: remove it, method SFT learns from "
                    "answers as they are",
                ),
                rule(
                    "self.method != 'RLHF' || has(self.reward)",
                    "method RLHF needs spec.reward: what the policy learns to earn",
                ),
                rule(
                    "self.method != 'DPO' || has(self.reward) != "
                    "(has(self.dpo) && has(self.dpo.preferences))",
                    "method DPO takes either spec.reward, which ranks the data set's answers, or "
                    "spec.dpo.preferences, which are ranked already",
                ),
                rule(
                    "!has(self.reward) || !has(self.evaluation) || !has(self.evaluation.judge) || "
                    "!(has(self.reward.builtIn) && has(self.evaluation.judge.builtIn) && "
                    "self.reward.builtIn == self.evaluation.judge.builtIn || "
                    "has(self.reward.model) && has(self.evaluation.judge.model) && "
                    "self.reward.model.digest == self.evaluation.judge.model.digest || "
                    "has(self.reward.endpoint) && has(self.evaluation.judge.endpoint) && "
                    "self.reward.endpoint.model == self.evaluation.judge.endpoint.model && "
                    f"{_url('self.reward')} == {_url('self.evaluation.judge')})",
                    "spec.evaluation.judge is the same as spec.reward: a model that was trained by "
                    "it wins by it, take another",
                ),
                rule(
                    "self.method != 'RLHF' || !has(self.reward) || !has(self.reward.endpoint)",
                    "spec.reward.endpoint ranks answers for method DPO: RLHF asks for a number at "
                    "every step, take reward.model or reward.trained",
                ),
                rule(
                    "self.merge || !has(self.sft) || self.sft.tuning != 'Full'",
                    "spec.merge is false, but spec.sft.tuning Full trains no adapters that could "
                    "be published alone: remove merge, or take tuning LoRA",
                ),
            ]
        }
    )

    dataset_ref: LocalRef = Field(
        description="The SyntheticDataset to train on, of this namespace."
    )
    base_model: PublicModel = Field(description="The model to align.")
    method: Literal["SFT", "DPO", "RLHF"] = Field(
        "SFT",
        description="SFT: supervised fine-tuning on the data set's answers. DPO: learning from "
        "pairs of a better and a worse answer. RLHF: reinforcement learning on the policy's own "
        "answers.",
    )
    sft: Sft | None = Field(
        None, description="With method SFT: supervised fine-tuning; left out: its defaults."
    )
    dpo: Dpo | None = Field(
        None, description="With method DPO: preference optimisation; left out: its defaults."
    )
    rlhf: Rlhf | None = Field(
        None, description="With method RLHF: reinforcement learning; left out: its defaults."
    )
    reward: Reward | None = Field(
        None, description="With methods DPO and RLHF: what scores answers."
    )
    merge: bool = Field(
        True,
        description="true: publish the whole model, the adapters merged into it. false: publish "
        "the adapters alone (PEFT), with the URI and digest of the base model they belong to.",
    )
    evaluation: Evaluation | None = Field(
        None, description="Public prompts that the model answers before and after; left out: none."
    )
    output: Location = Field(description="Where the model goes.")
    compute: Compute = Field(default_factory=Compute)
    suspend: bool = Field(False, description="Start no new pod; a running one ends first.")
    ttl_seconds_after_finished: TtlSeconds | None = Field(None, description=TTL_DESCRIPTION)

    @property
    def needs_answers(self) -> bool:
        """Whether the method learns from the data set's answers."""
        return self.method == "SFT" or (self.method == "DPO" and self.reward is not None)


class AlignmentRunStatus(CommonStatus):
    """How far the run is."""

    progress: ShortText = Field("", description="Steps done of all.")
    guarantee: Annotated[str, StringConstraints(max_length=512)] = Field(
        "", description="The privacy statement inherited from the data set."
    )
    stages: list[StageStatus] = Field(
        default_factory=list,
        max_length=8,
        json_schema_extra=list_map("name"),
        description="The stages as far as it came: reward if spec.reward.trained, then the "
        "method's.",
    )
    model: ArtifactRef | None = Field(None, description="The aligned model.")


class AlignmentRun(ApiModel):
    """The resource."""

    kind: ClassVar[str] = "AlignmentRun"
    plural: ClassVar[str] = "alignmentruns"
    short_names: ClassVar[list[str]] = ["align"]
    scope: ClassVar[Literal["Cluster", "Namespaced"]] = "Namespaced"
    columns: ClassVar[list[dict[str, Any]]] = [
        {"name": "Dataset", "type": "string", "jsonPath": ".spec.datasetRef.name"},
        {"name": "Method", "type": "string", "jsonPath": ".spec.method"},
        {"name": "Progress", "type": "string", "jsonPath": ".status.progress"},
        {"name": "Status", "type": "string", "jsonPath": ".status.summary"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]

    spec: AlignmentRunSpec
    status: AlignmentRunStatus | None = None
