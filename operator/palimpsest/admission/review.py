"""The decision about one AdmissionReview request. Pure, but for what `Cluster` looks up."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol, TypeVar

from pydantic import ValidationError

from palimpsest.api import GROUP
from palimpsest.api.alignment import AlignmentRun, AlignmentRunSpec
from palimpsest.api.base import ApiModel, faults
from palimpsest.api.budget import PrivacyBudget, PrivacyBudgetSpec
from palimpsest.api.dataset import SyntheticDataset, SyntheticDatasetSpec
from palimpsest.api.endpoints import ChatEndpoint
from palimpsest.api.generator import PrivateGenerator, PrivateGeneratorSpec
from palimpsest.api.refusals import Refusal
from palimpsest.privacy import audits
from palimpsest.privacy.calibration import MIN_EPSILON
from palimpsest.privacy.clusters import clusters_of, clusters_within, noise_variation
from palimpsest.privacy.gate import choose_order, rho
from palimpsest.privacy.mechanisms import DiscreteGaussian
from palimpsest.privacy.pricing import (
    limit_of,
    planned_mechanisms,
    price_histogram,
    price_training,
)
from palimpsest.storage import canonical_prefix
from palimpsest.terms.files import (
    files_of_dataset,
    files_of_run,
    overlap_refusal,
    private_file_refusal,
)
from palimpsest.terms.placement import placement_refusal
from palimpsest.terms.tenants import model_refusal, namespace_refusal

from .fit import Budget, gate_of, histogram_misfit, holds_charge, training_misfit

CONFIRM_DELETE = f"{GROUP}/confirm-delete"

# Beyond it the guarantee says little: e^10 is 22,000.
WEAK_EPSILON = Decimal(10)
# Expected total variation that the noise alone adds to the histogram.
NOISY_HISTOGRAM = Decimal("0.1")
# Noise on one coordinate of the mean gradient, averaged over all steps, in clipping norms. At 0.01
# a hundred thousand adapter parameters carry three times as much noise as any signal can have.
DROWNING_NOISE = 0.01
_USUAL_HISTOGRAM = DiscreteGaussian.model_validate({"noiseMultiplier": "10"})

_Spec = TypeVar("_Spec", bound=ApiModel)


class Cluster(Protocol):
    """What admission reads from the API server; each raises if that did not answer."""

    def budget(self, name: str) -> Budget | None: ...

    def generator(self, namespace: str, name: str) -> PrivateGeneratorSpec | None: ...

    def dataset(self, namespace: str, name: str) -> SyntheticDatasetSpec | None: ...

    def labels(self, namespace: str) -> Mapping[str, str]: ...

    def private(self) -> Mapping[str, str]: ...


@dataclass(frozen=True)
class Decision:
    """What the API server is told."""

    allowed: bool
    message: str = ""
    warnings: tuple[str, ...] = ()
    reason: Refusal | None = None


class RefusedError(Exception):
    """The request is denied; the text names the field and the remedy."""

    def __init__(self, reason: Refusal, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def review(request: Mapping[str, Any], cluster: Cluster) -> Decision:
    """Decide on the `request` of an AdmissionReview (admission.k8s.io/v1).

    Raises whatever the cluster's look-ups raise.
    """
    kind, operation = request["kind"]["kind"], request["operation"]
    try:
        match kind, operation:
            case PrivacyBudget.kind, "DELETE":
                _confirmed(request["oldObject"])
                warnings = []
            case PrivacyBudget.kind, "CREATE" | "UPDATE":
                old = request.get("oldObject")
                limits = _spec(PrivacyBudgetSpec, request["object"])
                warnings = _budget(limits, _spec(PrivacyBudgetSpec, old) if old else None)
                if old and "status" in old:
                    _covers_spent(limits, Budget.of(old))
            case PrivateGenerator.kind, "CREATE":
                spec = _spec(PrivateGeneratorSpec, request["object"])
                warnings = _generator(spec, request["namespace"], _name(request), cluster)
            case PrivateGenerator.kind, "UPDATE":
                warnings = []
                _moved(_spec(PrivateGeneratorSpec, request["object"]), cluster)
            case SyntheticDataset.kind, "CREATE":
                data = _spec(SyntheticDatasetSpec, request["object"])
                warnings = _dataset(data, request["namespace"], _name(request), cluster)
                annotator = data.annotation.endpoint if data.annotation else None
                warnings += _open_key("spec.annotation.endpoint", annotator)
            case SyntheticDataset.kind, "UPDATE":
                warnings = []
                before, after = (
                    _spec(SyntheticDatasetSpec, request[each]) for each in ("oldObject", "object")
                )
                if files_of_dataset(before) != files_of_dataset(after):
                    _answered(after, request["namespace"], cluster)
            case AlignmentRun.kind, "CREATE":
                run = _spec(AlignmentRunSpec, request["object"])
                warnings = _alignment(run, request["namespace"], cluster)
                judge = run.evaluation.judge if run.evaluation else None
                for field, scoring in (("reward", run.reward), ("evaluation.judge", judge)):
                    asked = scoring.endpoint if scoring else None
                    warnings += _open_key(f"spec.{field}.endpoint", asked)
            case _:
                warnings = []
    except RefusedError as refused:
        return Decision(False, str(refused), reason=refused.reason)
    return Decision(True, warnings=tuple(warnings))


def _name(request: Mapping[str, Any]) -> str:
    # generateName: the name is not made yet, and a new name holds no charge.
    return request.get("name") or ""


def _spec(model: type[_Spec], manifest: Mapping[str, Any]) -> _Spec:
    try:
        return model.model_validate(manifest.get("spec"))
    except ValidationError as error:
        raise RefusedError(Refusal.SPEC_INVALID, faults(error, "spec")) from error


def _confirmed(budget: Mapping[str, Any]) -> None:
    metadata = budget["metadata"]
    if (metadata.get("annotations") or {}).get(CONFIRM_DELETE) != "true":
        name = metadata["name"]
        raise RefusedError(
            Refusal.NOT_CONFIRMED,
            f'PrivacyBudget "{name}" is not deleted without its custodian\'s word; what is spent '
            "stays spent in the journal either way. To confirm: "
            f"kubectl annotate privacybudget {name} {CONFIRM_DELETE}=true",
        )


def _budget(spec: PrivacyBudgetSpec, old: PrivacyBudgetSpec | None) -> list[str]:
    limit = limit_of(spec)
    if limit.delta * spec.dataset.records >= 1:
        raise RefusedError(
            Refusal.LIMIT_INVALID,
            f"spec.limit.delta: {spec.limit.delta} must be below 1/records, here "
            f"1/{spec.dataset.records}",
        )
    if old is not None and limit.epsilon > limit_of(old).epsilon:
        raise RefusedError(
            Refusal.LIMIT_RAISED,
            f"spec.limit.epsilon: {spec.limit.epsilon} is above {old.limit.epsilon}; it may only "
            "be lowered",
        )
    _unambiguous("spec.dataset.uri", spec.dataset.uri)
    _unambiguous("spec.releases.uri", spec.releases.uri)
    _refuse(Refusal.PLACES_OVERLAP, overlap_refusal(spec))
    if spec.custodian.namespace in spec.allowed_namespaces.names:
        raise RefusedError(
            Refusal.PLACES_OVERLAP,
            f"spec.allowedNamespaces.names: {spec.custodian.namespace} is the custodian's "
            "namespace and cannot be a tenant's too",
        )
    try:
        choose_order(planned_mechanisms(spec), limit)
    except ValueError as error:
        field = "spec.plan" if spec.plan else "spec.limit"
        raise RefusedError(
            Refusal.LIMIT_INVALID, f"{field}: no gate can be opened: {error}"
        ) from error
    return _weak("spec.limit.epsilon", limit.epsilon)


def _covers_spent(spec: PrivacyBudgetSpec, old: Budget) -> None:
    gate, limit = gate_of(old), limit_of(spec)
    if gate is not None and rho(limit.epsilon, limit.delta, gate.order) < gate.units - gate.left:
        raise RefusedError(
            Refusal.LIMIT_BELOW_SPENT,
            f"spec.limit.epsilon: {spec.limit.epsilon} is less than was given out already: "
            f"{1 - gate.left_share} of the gate at {old.spec.limit.epsilon}; what is spent stays "
            "spent, what is reserved may be released",
        )


def _generator(
    spec: PrivateGeneratorSpec, namespace: str, name: str, cluster: Cluster
) -> list[str]:
    epsilon = Decimal(spec.privacy.epsilon)
    if epsilon < MIN_EPSILON:
        raise RefusedError(
            Refusal.CANNOT_BE_PRICED,
            f"spec.privacy.epsilon: {spec.privacy.epsilon} is below {MIN_EPSILON}, the least that "
            "a training may ask for",
        )
    warnings = _weak("spec.privacy.epsilon", epsilon)
    budget = cluster.budget(spec.budget_ref.name)
    if budget is None:
        return [*warnings, _held("spec.budgetRef.name", "PrivacyBudget", spec.budget_ref.name)]
    _tenant(budget, namespace, cluster)
    _refuse(
        Refusal.MODEL_NOT_ALLOWED,
        model_refusal(budget.spec, budget.name, "spec.baseModel", spec.base_model),
    )
    _refuse(
        Refusal.PLACEMENT_NOT_ALLOWED,
        placement_refusal(budget.spec.custodian.compute, spec.compute, "spec.compute"),
    )
    batch, records = spec.training.expected_batch_size, budget.spec.dataset.records
    if batch > records:
        raise RefusedError(
            Refusal.CANNOT_BE_PRICED,
            f"spec.training.expectedBatchSize: {batch} is more than the {records} records that "
            f'PrivacyBudget "{budget.name}" declares',
        )
    try:
        training = price_training(spec, budget.spec)
    except ValueError as error:
        raise RefusedError(Refusal.CANNOT_BE_PRICED, f"spec.privacy.{error}") from error
    warnings += _unprovable(spec, budget.spec)
    warnings += _drowned(batch, spec.training.steps_over(records), float(training.noiseMultiplier))
    gate = gate_of(budget)
    if gate is None or holds_charge(budget, PrivateGenerator.kind, namespace, name):
        return warnings
    if not gate.fits(training):
        raise RefusedError(
            Refusal.BUDGET_EXCEEDED, training_misfit(gate, training, spec.privacy.epsilon)
        )
    if not gate.fits(training, _USUAL_HISTOGRAM):
        warnings.append(
            "spec.privacy.epsilon: this training leaves no room for the histogram of a "
            "SyntheticDataset with spec.resampling (noise multiplier 10)"
        )
    return warnings


def _moved(spec: PrivateGeneratorSpec, cluster: Cluster) -> None:
    """Of an update all but the placement is immutable, or harmless."""
    budget = cluster.budget(spec.budget_ref.name)
    if budget is not None:
        _refuse(
            Refusal.PLACEMENT_NOT_ALLOWED,
            placement_refusal(budget.spec.custodian.compute, spec.compute, "spec.compute"),
        )


def _dataset(spec: SyntheticDatasetSpec, namespace: str, name: str, cluster: Cluster) -> list[str]:
    generator = cluster.generator(namespace, spec.generator_ref.name)
    if generator is None:
        return [_held("spec.generatorRef.name", "PrivateGenerator", spec.generator_ref.name)]
    budget = cluster.budget(generator.budget_ref.name)
    if budget is None:
        return [_held("the generator's budgetRef", "PrivacyBudget", generator.budget_ref.name)]
    _tenant(budget, namespace, cluster)
    _public(files_of_dataset(spec), budget, cluster)
    resampling = spec.resampling
    if resampling is None:
        return []
    embedder = resampling.embedder
    _refuse(
        Refusal.MODEL_NOT_ALLOWED,
        model_refusal(budget.spec, budget.name, "spec.resampling.embedder", embedder),
    )
    custody, field = spec.compute.custody(), spec.compute.custody_field
    _refuse(
        Refusal.PLACEMENT_NOT_ALLOWED,
        placement_refusal(budget.spec.custodian.compute, custody, field),
    )
    try:
        histogram = price_histogram(resampling)
    except ValueError as error:
        raise RefusedError(
            Refusal.CANNOT_BE_PRICED, f"spec.resampling.noiseMultiplier: {error}"
        ) from error
    gate = gate_of(budget)
    known = holds_charge(budget, SyntheticDataset.kind, namespace, name)
    if gate is not None and not known and not gate.fits(histogram):
        raise RefusedError(Refusal.BUDGET_EXCEEDED, histogram_misfit(gate, histogram))
    records = budget.spec.dataset.records
    clusters = clusters_of(resampling, spec.sampling.count, records)
    variation = noise_variation(clusters, histogram.noise, records)
    if variation <= NOISY_HISTOGRAM:
        return []
    fewer = clusters_within(NOISY_HISTOGRAM, histogram.noise, records)
    return [
        f"spec.resampling.clusters: noise alone moves the histogram by {variation:.2f} in total "
        f"variation at {records} records; take at most {fewer} clusters"
    ]


def _answered(spec: SyntheticDatasetSpec, namespace: str, cluster: Cluster) -> None:
    """People's answers have come; nothing else of an update matters here."""
    _public(files_of_dataset(spec), _budget_of(spec, namespace, cluster), cluster)


def _alignment(spec: AlignmentRunSpec, namespace: str, cluster: Cluster) -> list[str]:
    dataset = cluster.dataset(namespace, spec.dataset_ref.name)
    budget = _budget_of(dataset, namespace, cluster) if dataset else None
    _public(files_of_run(spec), budget, cluster)
    if dataset is None:
        return [_held("spec.datasetRef.name", "SyntheticDataset", spec.dataset_ref.name)]
    return []


def _budget_of(spec: SyntheticDatasetSpec, namespace: str, cluster: Cluster) -> Budget | None:
    """That which a data set's generator charges, as far as both are known."""
    generator = cluster.generator(namespace, spec.generator_ref.name)
    return cluster.budget(generator.budget_ref.name) if generator else None


def _public(files: Mapping[str, str], budget: Budget | None, cluster: Cluster) -> None:
    if files:
        own = budget.name if budget else ""
        _refuse(Refusal.FILE_IS_PRIVATE, private_file_refusal(files, cluster.private(), own))


def _open_key(field: str, endpoint: ChatEndpoint | None) -> list[str]:
    if endpoint is None or endpoint.secret_name is None or endpoint.base_url.startswith("https:"):
        return []
    return [
        f"{field}.baseURL: over http the key of Secret {endpoint.secret_name} is sent in the "
        "clear; take https, or leave secretName out where the server needs no key"
    ]


def _tenant(budget: Budget, namespace: str, cluster: Cluster) -> None:
    selects = budget.spec.allowed_namespaces.selector is not None
    labels = cluster.labels(namespace) if selects else {}
    _refuse(
        Refusal.NAMESPACE_NOT_ALLOWED,
        namespace_refusal(budget.spec, budget.name, namespace, labels),
    )


def _refuse(reason: Refusal, message: str) -> None:
    if message:
        raise RefusedError(reason, message)


def _unambiguous(field: str, uri: str) -> None:
    try:
        canonical_prefix(uri)
    except ValueError as error:
        raise RefusedError(Refusal.SPEC_INVALID, f"{field}: {error}") from error


def _drowned(batch: int, steps: int, noise_multiplier: float) -> list[str]:
    noise = noise_multiplier / (batch * math.sqrt(steps))
    if noise <= DROWNING_NOISE:
        return []
    # A larger batch asks for a little more noise: a quarter on top covers that.
    enough = math.ceil(1.25 * batch * noise / DROWNING_NOISE)
    return [
        f"spec.training.expectedBatchSize: at {batch} the noise drowns the signal ({noise:.3f} "
        f"clipping norms on every coordinate after {steps} steps); about {enough} would do, or "
        "more steps, or a larger epsilon"
    ]


def _unprovable(spec: PrivateGeneratorSpec, budget: PrivacyBudgetSpec) -> list[str]:
    powerless = audits.powerless(spec, budget)
    if not powerless:
        return []
    if spec.audit is not None and spec.audit.required:
        raise RefusedError(
            Refusal.AUDIT_POWERLESS,
            f"spec.audit.canaries: {powerless}, or set spec.audit.required to false to train "
            "without a test of the claim",
        )
    return [f"spec.audit.canaries: {powerless}"]


def _weak(field: str, epsilon: Decimal) -> list[str]:
    if epsilon <= WEAK_EPSILON:
        return []
    return [f"{field}: above {WEAK_EPSILON} differential privacy promises little"]


def _held(field: str, kind: str, name: str) -> str:
    return f'{field}: {kind} "{name}" does not exist yet; the resource waits for it'
