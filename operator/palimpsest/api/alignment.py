"""AlignmentRun: a model aligned on a synthetic data set.

It sees no private data and spends nothing."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints

from .base import ApiModel, Digest, ObjectUri, PositiveDecimal
from .common import (
    TTL_DESCRIPTION,
    ArtifactRef,
    CommonStatus,
    Compute,
    LocalRef,
    Location,
    ShortText,
    StageStatus,
    TtlSeconds,
    immutable,
    list_map,
)
from .models import PublicModel


class Sft(ApiModel):
    """Supervised fine-tuning on the annotated instructions; loss on answers only."""

    epochs: Annotated[int, Field(ge=1, le=100)] = Field(1, description="Passes over the data set.")
    batch_size: Annotated[int, Field(ge=1, le=4096)] = Field(16, description="Pairs in a step.")
    learning_rate: PositiveDecimal = Field("0.0005", description="Peak of AdamW's schedule.")
    max_length: Annotated[int, Field(ge=16, le=32768)] = Field(
        128, description="Tokens of instruction and answer; longer pairs are cut."
    )
    lora_rank: Annotated[int, Field(ge=1, le=256)] = Field(
        8, description="Rank of the adapters, which are merged into the published model."
    )


class Evaluation(ApiModel):
    """Public prompts that the model answers before and after."""

    prompts: ObjectUri = Field(
        description="JSONL of public prompts, field `instruction`; never the private data."
    )
    digest: Digest = Field(description="SHA-256 of that file.")
    count: Annotated[int, Field(ge=1, le=10_000)] = Field(
        8, description="Prompts to take, from the first."
    )


class AlignmentRunSpec(ApiModel):
    """How a model is aligned."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": immutable(
                "AlignmentRun", "datasetRef", "baseModel", "method", "sft", "evaluation", "output"
            )
        }
    )

    dataset_ref: LocalRef = Field(
        description="The SyntheticDataset to train on, of this namespace."
    )
    base_model: PublicModel = Field(description="The model to align.")
    method: Literal["SFT"] = Field(
        "SFT", description="SFT: supervised fine-tuning on the data set's answers."
    )
    sft: Sft = Field(
        default_factory=Sft, description="Supervised fine-tuning; loss on answers only."
    )
    evaluation: Evaluation | None = Field(
        None, description="Public prompts that the model answers before and after; left out: none."
    )
    output: Location = Field(description="Where the model goes.")
    compute: Compute = Field(default_factory=Compute)
    suspend: bool = Field(False, description="Start no new pod; a running one ends first.")
    ttl_seconds_after_finished: TtlSeconds | None = Field(None, description=TTL_DESCRIPTION)


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
        description="The stages of the method.",
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
