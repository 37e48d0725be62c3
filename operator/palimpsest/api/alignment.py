"""AlignmentRun: a model aligned on a synthetic data set.

It sees no private data and spends nothing."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints

from .base import ApiModel, Digest, ObjectUri, PositiveDecimal
from .common import (
    ArtifactRef,
    CommonStatus,
    Compute,
    LocalRef,
    Location,
    ModelRef,
    ShortText,
    StageStatus,
    immutable,
    list_map,
)


class Sft(ApiModel):
    """Supervised fine-tuning on the annotated instructions; loss on answers only."""

    epochs: Annotated[int, Field(ge=1, le=100)] = 1
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 16
    learning_rate: PositiveDecimal = "0.0005"
    max_length: Annotated[int, Field(ge=16, le=32768)] = 128
    lora_rank: Annotated[int, Field(ge=1, le=256)] = 8


class Evaluation(ApiModel):
    """Public prompts that the model answers before and after."""

    prompts: ObjectUri = Field(
        description="JSONL of public prompts, field `instruction`; never the private data."
    )
    digest: Digest = Field(description="SHA-256 of that file.")
    count: Annotated[int, Field(ge=1, le=10_000)] = 8


class AlignmentRunSpec(ApiModel):
    """How a model is aligned."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": immutable(
                "AlignmentRun", "datasetRef", "baseModel", "method", "sft", "evaluation", "output"
            )
        }
    )

    dataset_ref: LocalRef
    base_model: ModelRef
    method: Literal["SFT"] = "SFT"
    sft: Sft = Field(default_factory=Sft)
    evaluation: Evaluation | None = None
    output: Location
    compute: Compute = Field(default_factory=Compute)
    suspend: bool = Field(False, description="Start no new pod; a running one ends first.")


class AlignmentRunStatus(CommonStatus):
    """How far the run is."""

    progress: ShortText = ""
    guarantee: Annotated[str, StringConstraints(max_length=512)] = Field(
        "", description="The privacy statement inherited from the data set."
    )
    stages: list[StageStatus] = Field(
        default_factory=list, max_length=8, json_schema_extra=list_map("name")
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
