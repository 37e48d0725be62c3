"""SyntheticDataset: instructions sampled from a generator and matched to the real distribution."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints

from .annotation import IMMUTABLE, Annotation
from .base import ApiModel, PositiveDecimal, UnitDecimal
from .common import (
    TTL_DESCRIPTION,
    ArtifactRef,
    CommonStatus,
    Compute,
    LocalRef,
    Location,
    ModelRef,
    PrivateCompute,
    ShortText,
    StageStatus,
    TtlSeconds,
    immutable,
    list_map,
    rule,
)

MOST_CLUSTERS = 10_000

StopToken = Annotated[str, StringConstraints(min_length=1, max_length=32)]


class Sampling(ApiModel):
    """How instructions are drawn from the generator. Free of charge: post-processing."""

    count: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        description="Instructions in the pool, before resampling."
    )
    shards: Annotated[int, Field(ge=1, le=64)] = Field(1, description="Pods that share the work.")
    batch_size: Annotated[int, Field(ge=1, le=4096)] = Field(
        128, description="Rows generated at once; no effect on the distribution."
    )
    temperature: PositiveDecimal = Field("1.0", description="Softmax temperature.")
    top_p: UnitDecimal = Field(
        "0.95", description="Nucleus: the smallest set of tokens with this much probability."
    )
    top_k: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="Only the likeliest so many tokens, before topP; left out: all."
    )
    max_length: Annotated[int, Field(ge=4, le=4096)] = Field(
        32, description="New tokens at most; longer outputs are cut."
    )
    stop_tokens: Annotated[list[StopToken], Field(max_length=8)] = Field(
        default_factory=list,
        description="Texts of one token each, as the generator's tokenizer has them, that end an "
        "instruction as its end-of-sequence token does; they are no part of it.",
    )


class Resampling(ApiModel):
    """The DP histogram over clusters (arXiv 2402.13659, section 3.2). Charged to the budget."""

    size: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        description="Instructions to select from the pool."
    )
    clusters: Annotated[int, Field(ge=2, le=MOST_CLUSTERS)] | None = Field(
        None,
        description="K of k-means. Noise spreads over all: in total variation it adds about "
        "0.4 * clusters * noiseMultiplier / the budget's declared records. Left out: as many as "
        "keep that below 0.05, and at most one for every 10 instructions of the pool.",
    )
    noise_multiplier: PositiveDecimal = Field(
        "10", description="Standard deviation of the discrete Gaussian noise on each count."
    )
    embedder: ModelRef = Field(description="Sentence embedder; one of the budget's models.")


class StageCompute(ApiModel):
    """Compute by stage; a stage left out takes `default`."""

    default: Compute = Field(
        default_factory=Compute, description="Of every stage that has none of its own."
    )
    histogram: PrivateCompute | None = Field(
        None,
        description="In custody, within the budget's custodian.compute; left out: resources, "
        "scratch and sharedMemory of `default`, which places stages outside custody alone.",
    )
    sample: Compute | None = Field(None, description="Of the sample stage.")
    annotate: Compute | None = Field(None, description="Of the annotate stage.")

    def custody(self) -> PrivateCompute:
        """What the histogram's pods ask for."""
        if self.histogram is not None:
            return self.histogram
        return PrivateCompute(
            resources=self.default.resources,
            scratch=self.default.scratch,
            shared_memory=self.default.shared_memory,
        )

    @property
    def custody_field(self) -> str:
        """Where in the spec that is said."""
        return f"spec.compute.{'default' if self.histogram is None else 'histogram'}"


class SyntheticDatasetSpec(ApiModel):
    """A data set of synthetic instructions, with answers if annotation is given."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                *immutable(
                    "SyntheticDataset",
                    "generatorRef",
                    "sampling",
                    "resampling",
                    "output",
                ),
                IMMUTABLE,
                rule(
                    "!has(self.resampling) || self.resampling.size <= self.sampling.count",
                    "spec.resampling.size is larger than spec.sampling.count: the pool must hold "
                    "at least as many instructions as are selected from it",
                ),
                rule(
                    "!has(self.resampling) || !has(self.resampling.clusters) || "
                    "self.resampling.clusters <= self.sampling.count",
                    "spec.resampling.clusters is larger than spec.sampling.count: k-means needs "
                    "at least one instruction a cluster",
                ),
            ]
        }
    )

    generator_ref: LocalRef = Field(
        description="The PrivateGenerator to sample from, of this namespace."
    )
    sampling: Sampling = Field(description="The pool.")
    resampling: Resampling | None = Field(
        None,
        description="Matches the pool to the private distribution; left out: the pool is the data "
        "set.",
    )
    annotation: Annotation | None = Field(
        None, description="Adds answers; left out: instructions alone."
    )
    output: Location = Field(
        description="Where the data set goes; its Secret must also read the budget's releases."
    )
    retain_intermediates: bool = Field(
        True,
        description="false: once the data set is published, a last stage deletes from `output` "
        "what is neither that nor what its card is made from: the pool, centroids and "
        "assignments, and the selected instructions where they were annotated. Manifests stay. "
        "The releases are not touched. What is deleted is not made again: of the same name, only "
        "the same data set can be applied later.",
    )
    compute: StageCompute = Field(default_factory=StageCompute)
    suspend: bool = Field(False, description="Start no new pod; running ones end first.")
    ttl_seconds_after_finished: TtlSeconds | None = Field(None, description=TTL_DESCRIPTION)


class SyntheticDatasetStatus(CommonStatus):
    """How far the data set is."""

    progress: ShortText = Field("", description="Stages done of all.")
    share: ShortText = Field(
        "", description="Part of the budget's gate that the histogram holds or spent."
    )
    stages: list[StageStatus] = Field(
        default_factory=list,
        max_length=8,
        json_schema_extra=list_map("name"),
        description="Every stage in turn.",
    )
    budget: ShortText = Field("", description="The PrivacyBudget that pays for the histogram.")
    guarantee: Annotated[str, StringConstraints(max_length=512)] = Field(
        "", description="The privacy statement that holds for the data set and all made from it."
    )
    dataset: ArtifactRef | None = Field(None, description="The finished data set.")
    pool_shortfall: int | None = Field(
        None,
        ge=0,
        description="Instructions that clusters of the pool lacked and their neighbours gave; 0: "
        "the selection has the histogram's proportions.",
    )
    pool_that_would_do: int | None = Field(
        None,
        ge=0,
        description="spec.sampling.count at which nothing would be lacking, at the proportions of "
        "this pool; absent if a cluster that is asked for is empty in it.",
    )
    receipt: Annotated[str, StringConstraints(max_length=512)] = Field(
        "", description="URI of the histogram's signed receipt."
    )


class SyntheticDataset(ApiModel):
    """The resource."""

    kind: ClassVar[str] = "SyntheticDataset"
    plural: ClassVar[str] = "syntheticdatasets"
    short_names: ClassVar[list[str]] = ["synds"]
    scope: ClassVar[Literal["Cluster", "Namespaced"]] = "Namespaced"
    columns: ClassVar[list[dict[str, Any]]] = [
        {"name": "Generator", "type": "string", "jsonPath": ".spec.generatorRef.name"},
        {"name": "Pool", "type": "integer", "jsonPath": ".spec.sampling.count"},
        {"name": "Size", "type": "integer", "jsonPath": ".spec.resampling.size"},
        {"name": "Share", "type": "string", "jsonPath": ".status.share"},
        {"name": "Progress", "type": "string", "jsonPath": ".status.progress"},
        {"name": "Status", "type": "string", "jsonPath": ".status.summary"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]

    spec: SyntheticDatasetSpec
    status: SyntheticDatasetStatus | None = None
