"""What a resource's spec costs: the mechanism that is charged, worst case included. Pure."""

from decimal import Decimal
from typing import Any, TypeVar

from pydantic import ValidationError

from palimpsest.api.budget import PrivacyBudgetSpec
from palimpsest.api.dataset import Resampling
from palimpsest.api.generator import PrivateGeneratorSpec
from palimpsest.privacy.calibration import calibrate_noise, default_plan, worst_case_steps
from palimpsest.privacy.gate import Limit
from palimpsest.privacy.mechanisms import DiscreteGaussian, Mechanism, PoissonSubsampledGaussian

_M = TypeVar("_M", PoissonSubsampledGaussian, DiscreteGaussian)


def limit_of(budget: PrivacyBudgetSpec) -> Limit:
    """The budget's limit in exact decimals."""
    return Limit(Decimal(budget.limit.epsilon), Decimal(budget.limit.delta))


def price_training(
    spec: PrivateGeneratorSpec, budget: PrivacyBudgetSpec
) -> PoissonSubsampledGaussian:
    """The training at its worst case: every allowed restart repeats a whole checkpoint interval.

    Raises ValueError naming what is out of bounds.
    """
    training = spec.training
    steps = training.steps_over(budget.dataset.records)
    return _training(
        budget,
        spec.privacy.epsilon,
        training.expected_batch_size,
        worst_case_steps(steps, training.restarts, training.checkpoint_interval),
    )


def price_histogram(resampling: Resampling) -> DiscreteGaussian:
    """The histogram. Raises ValueError for a noise multiplier out of bounds."""
    return _histogram(resampling.noise_multiplier)


def planned_mechanisms(budget: PrivacyBudgetSpec) -> list[Mechanism]:
    """What the custodian expects to charge; without a plan the default one. Raises ValueError."""
    plan = budget.plan
    if plan is None or not (plan.trainings or plan.histograms):
        return default_plan(limit_of(budget), budget.dataset.records)
    planned: list[Mechanism] = []
    for training in plan.trainings:
        mechanism = _training(budget, training.epsilon, training.batch_size, training.steps)
        planned += [mechanism] * training.count
    for histogram in plan.histograms:
        planned += [_histogram(histogram.noise_multiplier)] * histogram.count
    return planned


def _training(
    budget: PrivacyBudgetSpec, epsilon: str, batch: int, steps: int
) -> PoissonSubsampledGaussian:
    records = budget.dataset.records
    noise = calibrate_noise(epsilon, budget.limit.delta, records, batch, steps)
    fields = {"batch": batch, "records": records, "noiseMultiplier": noise, "steps": steps}
    return _mechanism(PoissonSubsampledGaussian, fields)


def _histogram(noise: str) -> DiscreteGaussian:
    return _mechanism(DiscreteGaussian, {"noiseMultiplier": noise})


def _mechanism(kind: type[_M], fields: dict[str, Any]) -> _M:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise ValueError("; ".join(each["msg"] for each in error.errors())) from error
