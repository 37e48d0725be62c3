"""Task documents from specs: what each stage is told, where it publishes. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from palimpsest.api.alignment import AlignmentRunSpec, Dpo, Rlhf, Sft
from palimpsest.api.annotation import TokenPrices
from palimpsest.api.budget import PrivacyBudgetSpec
from palimpsest.api.common import ArtifactRef, Location, ModelRef, Storage, StorageAuth
from palimpsest.api.dataset import SyntheticDatasetSpec
from palimpsest.api.endpoints import ChatEndpoint
from palimpsest.api.evaluation import Evaluation, Gates
from palimpsest.api.generator import PrivateGeneratorSpec
from palimpsest.api.manifest import MANIFEST
from palimpsest.api.models import PublicModel
from palimpsest.api.rewards import Judge, TrainedReward
from palimpsest.api.task import (
    AnnotateParameters,
    AnyModelInput,
    ArtifactInput,
    CardParameters,
    ChargeRef,
    ClaimModelInput,
    ClusterParameters,
    DpoParameters,
    EndpointAccess,
    EndpointInput,
    EvaluationParameters,
    FileInput,
    HistogramParameters,
    HubModelInput,
    Input,
    ModelInput,
    MountedKeys,
    Output,
    Parameters,
    PrivateInput,
    PruneParameters,
    RewardModelParameters,
    RewardParameters,
    RlhfParameters,
    SampleParameters,
    SelectParameters,
    SftParameters,
    StoreAccess,
    Subject,
    Task,
    TrainParameters,
    WebIdentity,
    work_digest,
)
from palimpsest.ledger.identity import charge_id
from palimpsest.privacy.audits import plan_audit

from .observed import Meta

# The cluster stage's file that the card tells of.
CLUSTERS = "clusters.json"
DEFAULT_AUDIENCE = "sts.amazonaws.com"


@dataclass(frozen=True)
class StagePlan:
    """One stage: its task, the digest of its work, and where its manifests will lie."""

    task: Task
    digest: str
    storage: Storage

    @property
    def stage(self) -> str:
        """The stage's name."""
        return self.task.parameters.stage

    @property
    def manifests(self) -> tuple[str, ...]:
        """URIs of the manifests that together are the stage's result."""
        return tuple(f"{prefix}{MANIFEST}" for prefix in self.prefixes)

    @property
    def prefixes(self) -> tuple[str, ...]:
        """One prefix a shard."""
        prefix = self.task.output.uri
        if isinstance(self.task.parameters, SampleParameters):
            return tuple(f"{prefix}shards/{index}/" for index in range(self.task.parameters.shards))
        return (prefix,)


def subject(meta: Meta) -> Subject:
    """The resource as tasks and charges name it."""
    return Subject(namespace=meta.namespace, kind=meta.kind, name=meta.name)


def _access(storage: Storage, auth: StorageAuth | None = None) -> StoreAccess:
    return StoreAccess(
        endpoint=storage.endpoint,
        region=storage.region,
        path_style=storage.path_style,
        ca_bundle=storage.ca_bundle,
        sse=storage.sse,
        credentials=_credentials(auth or storage.auth),
    )


def _credentials(auth: StorageAuth) -> MountedKeys | WebIdentity:
    if auth.role_arn is not None:
        return WebIdentity(
            role_arn=auth.role_arn,
            audience=auth.audience or DEFAULT_AUDIENCE,
            token_endpoint=auth.token_endpoint,
        )
    if auth.secret_name is None:
        raise ValueError("storage.auth: neither secretName nor roleArn")
    return MountedKeys(secret=auth.secret_name)


def _model(ref: ModelRef, store: str) -> ModelInput:
    return ModelInput(store=store, uri=ref.uri, digest=ref.digest)


# The store of a model that lies elsewhere than the output.
_MODELS = "models"


def _public_model(ref: PublicModel, store: str = _MODELS) -> AnyModelInput:
    """A model outside custody; one of a store is in `_model_stores(ref)`, or with the output."""
    if ref.revision is not None:
        return HubModelInput(
            repository=ref.uri.removeprefix("hf://"),
            revision=ref.revision,
            digest=ref.digest,
            token_secret=ref.token_secret_name,
        )
    if ref.scheme == "pvc":
        claim, _, path = ref.uri.removeprefix("pvc://").partition("/")
        return ClaimModelInput(claim=claim, path=path, digest=ref.digest)
    return ModelInput(store=store if ref.storage else "outputs", uri=ref.uri, digest=ref.digest)


def _model_stores(ref: PublicModel, store: str = _MODELS) -> dict[str, StoreAccess]:
    return {store: _access(ref.storage)} if ref.storage else {}


def _endpoint(endpoint: ChatEndpoint) -> EndpointInput:
    return EndpointInput(base_url=endpoint.base_url, model=endpoint.model)


def _endpoint_access(endpoint: ChatEndpoint, prices: TokenPrices | None = None) -> EndpointAccess:
    return EndpointAccess(
        secret=endpoint.secret_name,
        ca_bundle=endpoint.ca_bundle,
        concurrency=endpoint.concurrency,
        requests_per_minute=endpoint.requests_per_minute,
        timeout_seconds=endpoint.timeout_seconds,
        patience_seconds=endpoint.patience_seconds,
        prices=prices,
    )


def _artifacts(name: str, store: str, artifacts: tuple[ArtifactRef, ...]) -> dict[str, Input]:
    if len(artifacts) == 1 and name != "pool":
        one = artifacts[0]
        return {name: ArtifactInput(store=store, uri=one.uri, digest=one.digest)}
    return {
        f"{name}-{index}": ArtifactInput(store=store, uri=one.uri, digest=one.digest)
        for index, one in enumerate(artifacts)
    }


def _plan(
    meta: Meta,
    parameters: Parameters,
    inputs: dict[str, Input],
    stores: Mapping[str, StoreAccess],
    target: str,
    location: Location,
    prefix: str,
    journal: str | None = None,
    endpoints: Mapping[str, EndpointAccess] | None = None,
) -> StagePlan:
    """Put a stage together; a stage with a journal is charged to it."""
    digest = work_digest(subject(meta), parameters, inputs)
    charge = None
    if journal is not None:
        charge = ChargeRef(
            id=charge_id(journal, meta.namespace, meta.kind, meta.name, digest),
            journal=journal,
            store="private",
        )
    place = digest.removeprefix("sha256:")[:16]
    task = Task(
        subject=subject(meta),
        parameters=parameters,
        stores=dict(stores),
        inputs=inputs,
        output=Output(store=target, uri=f"{location.uri}{prefix}{parameters.stage}-{place}/"),
        charge=charge,
        endpoints=dict(endpoints or {}),
    )
    return StagePlan(task=task, digest=digest, storage=location.storage)


def _private_input(budget: PrivacyBudgetSpec) -> PrivateInput:
    dataset = budget.dataset
    return PrivateInput(
        store="private", uri=dataset.uri, format=dataset.format, text_field=dataset.text_field
    )


def _custody_stores(budget: PrivacyBudgetSpec) -> dict[str, StoreAccess]:
    return {
        "private": _access(budget.dataset.storage),
        "releases": _access(budget.releases.storage),
    }


def train(
    meta: Meta, spec: PrivateGeneratorSpec, budget: PrivacyBudgetSpec, noise_multiplier: str
) -> StagePlan:
    """DP-SGD in custody; publishes to the releases."""
    training = spec.training
    parameters = TrainParameters(
        prompt=training.prompt,
        lora=training.lora,
        records=budget.dataset.records,
        expected_batch_size=training.expected_batch_size,
        micro_batch_size=training.micro_batch_size,
        steps=training.steps_over(budget.dataset.records),
        block_steps=training.checkpoint_interval,
        restarts=training.restarts,
        optimizer=training.optimizer,
        learning_rate=training.learning_rate,
        schedule=training.schedule,
        clipping_norm=training.clipping_norm,
        noise_multiplier=noise_multiplier,
        max_length=training.max_length,
        precision=training.precision,
        gradient_checkpointing=training.gradient_checkpointing,
        audit=plan_audit(spec, budget),
    )
    inputs: dict[str, Input] = {
        "base": _model(spec.base_model, "releases"),
        "private": _private_input(budget),
    }
    return _plan(
        meta,
        parameters,
        inputs,
        _custody_stores(budget),
        "releases",
        budget.releases,
        f"{meta.namespace}/{meta.name}/",
        journal=budget.dataset.uri,
    )


@dataclass(frozen=True)
class DatasetTasks:
    """Builds the stages of one SyntheticDataset, each from the artifacts before it."""

    meta: Meta
    spec: SyntheticDatasetSpec
    generator: PrivateGeneratorSpec
    budget: PrivacyBudgetSpec

    def _stores(self) -> dict[str, StoreAccess]:
        # The tenant enters the releases with its own keys: custody's Secret never leaves custody.
        auth = self.spec.output.storage.auth
        return {
            "outputs": _access(self.spec.output.storage),
            "releases": _access(self.budget.releases.storage, auth),
        }

    def _tenant(
        self,
        parameters: Parameters,
        inputs: dict[str, Input],
        more: dict[str, StoreAccess] | None = None,
        endpoints: Mapping[str, EndpointAccess] | None = None,
    ) -> StagePlan:
        stores, output = self._stores() | (more or {}), self.spec.output
        return _plan(
            self.meta, parameters, inputs, stores, "outputs", output, "", endpoints=endpoints
        )

    def sample(self, generator: tuple[ArtifactRef, ...]) -> StagePlan:
        """Draw the pool."""
        sampling = self.spec.sampling
        return self._tenant(
            SampleParameters(
                count=sampling.count,
                shards=sampling.shards,
                batch_size=sampling.batch_size,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                max_length=sampling.max_length,
                stop_tokens=sampling.stop_tokens,
            ),
            {
                "base": _model(self.generator.base_model, "outputs"),
                **_artifacts("generator", "releases", generator),
            },
        )

    def cluster(self, pool: tuple[ArtifactRef, ...], embedder: ModelRef, count: int) -> StagePlan:
        """Cluster the pool's embeddings."""
        return self._tenant(
            ClusterParameters(clusters=count),
            {"embedder": _model(embedder, "outputs"), **_artifacts("pool", "outputs", pool)},
        )

    def inbox(self, digest: str) -> str:
        """Where the operator lays the centroids for custody, named by what they are."""
        place = f"{self.meta.namespace}/{self.meta.name}/inbox/"
        return f"{self.budget.releases.uri}{place}{digest.removeprefix('sha256:')}.safetensors"

    def histogram(self, centroids: str, embedder: ModelRef, noise_multiplier: str) -> StagePlan:
        """Count private records by cluster, with noise, in custody."""
        return _plan(
            self.meta,
            HistogramParameters(
                records=self.budget.dataset.records,
                noise_multiplier=noise_multiplier,
                restarts=HISTOGRAM_RESTARTS,
            ),
            {
                "embedder": _model(embedder, "releases"),
                "private": _private_input(self.budget),
                "centroids": FileInput(
                    store="releases", uri=self.inbox(centroids), digest=centroids
                ),
            },
            _custody_stores(self.budget),
            "releases",
            self.budget.releases,
            f"{self.meta.namespace}/{self.meta.name}/",
            journal=self.budget.dataset.uri,
        )

    def select(
        self,
        pool: tuple[ArtifactRef, ...],
        clusters: tuple[ArtifactRef, ...],
        histogram: tuple[ArtifactRef, ...],
        size: int,
    ) -> StagePlan:
        """Resample the pool by the noisy histogram."""
        return self._tenant(
            SelectParameters(size=size),
            {
                **_artifacts("pool", "outputs", pool),
                **_artifacts("clusters", "outputs", clusters),
                **_artifacts("histogram", "releases", histogram),
            },
        )

    def annotate(self, instructions: tuple[ArtifactRef, ...]) -> StagePlan:
        """Answer the instructions. Raises ValueError without spec.annotation, or its answers."""
        annotation = self.spec.annotation
        if annotation is None:
            raise ValueError("spec.annotation is not given")
        model, endpoint, human = annotation.model, annotation.endpoint, annotation.human
        inputs: dict[str, Input] = _artifacts(
            "pool" if len(instructions) > 1 else "selected", "outputs", instructions
        )
        if model:
            inputs["model"] = _public_model(model)
        if endpoint:
            inputs["endpoint"] = _endpoint(endpoint)
        if human:
            if human.answers is None:
                raise ValueError("spec.annotation.human.answers is not given")
            inputs["answers"] = FileInput(
                store="outputs", uri=human.answers.uri, digest=human.answers.digest
            )
        return self._tenant(
            AnnotateParameters(
                system_prompt=annotation.system_prompt,
                chat_template=model.chat_template if model else None,
                max_new_tokens=annotation.max_new_tokens,
                batch_size=annotation.batch_size,
                answers=annotation.answers,
                temperature=annotation.sampled_at,
                top_p=annotation.top_p,
            ),
            inputs,
            _model_stores(model) if model else None,
            {"endpoint": _endpoint_access(endpoint, endpoint.prices)} if endpoint else None,
        )

    def card(self, data: dict[str, tuple[ArtifactRef, ...]], guarantee: str) -> StagePlan:
        """Publish the data set with its card; `data` maps an input's name to artifacts."""
        inputs: dict[str, Input] = {}
        for name, artifacts in data.items():
            store = "releases" if name == "histogram" else "outputs"
            inputs |= _artifacts(name, store, artifacts)
        return self._tenant(CardParameters(name=self.meta.name, guarantee=guarantee), inputs)

    def prune(self, spare: dict[str, tuple[ArtifactRef, ...]]) -> StagePlan:
        """Delete what the card is not made from; `spare` maps an input's name to artifacts."""
        inputs: dict[str, Input] = {}
        for name, artifacts in spare.items():
            inputs |= _artifacts(name, "outputs", artifacts)
        return self._tenant(PruneParameters(keep=[CLUSTERS]), inputs)


# A restart of the histogram costs nothing: the first noisy counts ever stored are the only ones
# that can be published (see the stage).
HISTOGRAM_RESTARTS = 5


def reward_model(meta: Meta, spec: AlignmentRunSpec, trained: TrainedReward) -> StagePlan:
    """A reward model from preferences, before the spec's method."""
    base, given = trained.base_model or spec.base_model, trained.preferences
    return _plan(
        meta,
        RewardModelParameters(
            epochs=trained.epochs,
            batch_size=trained.batch_size,
            learning_rate=trained.learning_rate,
            max_length=trained.max_length,
            held_out_share=trained.held_out_share,
            lora_rank=trained.lora_rank,
            checkpoint_interval=trained.checkpoint_interval,
            chat_template=base.chat_template,
        ),
        {
            "base": _public_model(base),
            "preferences": FileInput(store="outputs", uri=given.uri, digest=given.digest),
        },
        {"outputs": _access(spec.output.storage), **_model_stores(base)},
        "outputs",
        spec.output,
        "",
    )


def align(
    meta: Meta,
    spec: AlignmentRunSpec,
    dataset: ArtifactRef,
    origin: Location,
    guarantee: str,
    learnt: tuple[ArtifactRef, ...] = (),
) -> StagePlan:
    """Alignment on a published data set, by the spec's method.

    `learnt` is the reward model that the run trained, if it trained one.
    """
    inputs: dict[str, Input] = {
        "base": _public_model(spec.base_model),
        "dataset": ArtifactInput(store="datasets", uri=dataset.uri, digest=dataset.digest),
    }
    stores = {
        "outputs": _access(spec.output.storage),
        "datasets": _access(origin.storage, spec.output.storage.auth),
        **_model_stores(spec.base_model),
    }
    if spec.evaluation:
        inputs["evaluation"] = FileInput(
            store="outputs", uri=spec.evaluation.prompts, digest=spec.evaluation.digest
        )
    if spec.dpo and spec.dpo.preferences:
        given = spec.dpo.preferences
        inputs["preferences"] = FileInput(store="outputs", uri=given.uri, digest=given.digest)
    judge = spec.evaluation.judge if spec.evaluation else None
    endpoints: dict[str, EndpointAccess] = {}
    for name, scoring in (("reward", spec.reward), ("judge", judge)):
        if scoring and scoring.endpoint:
            inputs[name] = _endpoint(scoring.endpoint)
            endpoints[name] = _endpoint_access(scoring.endpoint)
        if scoring and scoring.model:
            inputs[name] = _public_model(scoring.model, f"{name}-models")
            stores |= _model_stores(scoring.model, f"{name}-models")
    inputs |= _artifacts("reward", "outputs", learnt) if learnt else {}
    parameters = _aligning(spec, guarantee)
    return _plan(meta, parameters, inputs, stores, "outputs", spec.output, "", endpoints=endpoints)


def align_stage(spec: AlignmentRunSpec) -> str:
    """The stage of the spec's method."""
    return spec.method.lower()


def _aligning(spec: AlignmentRunSpec, guarantee: str) -> Parameters:
    common: dict[str, Any] = {
        "merge": spec.merge,
        "evaluation": _evaluation(spec.evaluation),
        "chat_template": spec.base_model.chat_template,
        "guarantee": guarantee,
    }
    if spec.method == "DPO":
        dpo = spec.dpo or Dpo()
        return DpoParameters(
            epochs=dpo.epochs,
            batch_size=dpo.batch_size,
            learning_rate=dpo.learning_rate,
            max_length=dpo.max_length,
            beta=dpo.beta,
            lora_rank=dpo.lora_rank,
            checkpoint_interval=dpo.checkpoint_interval,
            reward=_reward(spec.reward),
            **common,
        )
    if spec.method == "RLHF":
        rlhf, reward = spec.rlhf or Rlhf(), _reward(spec.reward)
        if reward is None:
            raise ValueError("spec.reward is not given")
        return RlhfParameters(
            algorithm=rlhf.algorithm,
            steps=rlhf.steps,
            batch_size=rlhf.prompts_per_step,
            completions=rlhf.completions_per_prompt,
            micro_batch_size=rlhf.micro_batch_size,
            max_new_tokens=rlhf.max_new_tokens,
            learning_rate=rlhf.learning_rate,
            kl_coefficient=rlhf.kl_coefficient,
            max_kl=rlhf.max_kl,
            lora_rank=rlhf.lora_rank,
            checkpoint_interval=rlhf.checkpoint_interval,
            reward=reward,
            **common,
        )
    sft = spec.sft or Sft()
    return SftParameters(
        epochs=sft.epochs,
        batch_size=sft.batch_size,
        learning_rate=sft.learning_rate,
        max_length=sft.max_length,
        packing=sft.packing,
        lora_rank=sft.lora_rank if sft.tuning == "LoRA" else None,
        checkpoint_interval=sft.checkpoint_interval,
        **common,
    )


def _evaluation(evaluation: Evaluation | None) -> EvaluationParameters | None:
    if evaluation is None:
        return None
    return EvaluationParameters(
        count=evaluation.count,
        max_new_tokens=evaluation.max_new_tokens,
        judge=_reward(evaluation.judge),
        gates=evaluation.gates or Gates(),
    )


def _reward(reward: Judge | None) -> RewardParameters | None:
    if reward is None:
        return None
    return RewardParameters(
        built_in=reward.built_in,
        chat_template=reward.model.chat_template if reward.model else None,
        max_new_tokens=reward.endpoint.max_new_tokens if reward.endpoint else None,
    )
