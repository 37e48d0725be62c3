"""Does a charge fit into what a PrivacyBudget's status says is left? Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, Self

from palimpsest.api.budget import PrivacyBudgetSpec, PrivacyBudgetStatus
from palimpsest.privacy.gate import renyi_cost, rho
from palimpsest.privacy.inverse import histogram_noise_that_fits, largest_epsilon_that_fits
from palimpsest.privacy.mechanisms import DiscreteGaussian, Mechanism, PoissonSubsampledGaussian
from palimpsest.privacy.pricing import limit_of

_HUNDREDTH = Decimal("0.01")
_SHARE_STEP = Decimal("0.0001")


@dataclass(frozen=True)
class Budget:
    """A PrivacyBudget as the API server has it."""

    name: str
    generation: int
    spec: PrivacyBudgetSpec
    status: PrivacyBudgetStatus | None

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Self:
        """Raises ValueError if it is malformed."""
        status, metadata = manifest.get("status"), manifest["metadata"]
        return cls(
            name=metadata["name"],
            generation=metadata["generation"],
            spec=PrivacyBudgetSpec.model_validate(manifest["spec"]),
            status=PrivacyBudgetStatus.model_validate(status) if status else None,
        )


@dataclass(frozen=True)
class Gate:
    """The budget's gate as its status tells it: all of it and what is left, in units."""

    budget: Budget
    order: int
    units: int
    left: int
    left_share: Decimal

    def share(self, mechanism: Mechanism) -> Decimal:
        """The part of the gate that the mechanism takes."""
        return Decimal(renyi_cost(mechanism, self.order)) / self.units

    def fits(self, *mechanisms: Mechanism) -> bool:
        """Whether all of them together fit into what is left."""
        return sum(renyi_cost(mechanism, self.order) for mechanism in mechanisms) <= self.left


def gate_of(budget: Budget) -> Gate | None:
    """The gate, or None while the status does not speak of the present spec."""
    status = budget.status
    if status is None or status.shares is None or status.gate_order is None:
        return None
    if status.observed_generation < budget.generation:
        return None
    limit = limit_of(budget.spec)
    units = rho(limit.epsilon, limit.delta, status.gate_order)
    # `left` is rounded down to its fourth decimal: a charge that misses by less than that is held
    # to the journal's word, not refused here.
    share = Decimal(status.shares.left)
    left = min(units, int((share + _SHARE_STEP) * units))
    return Gate(budget, status.gate_order, units, left, share)


def holds_charge(budget: Budget, kind: str, namespace: str, name: str) -> bool:
    """Whether the journal knows a charge of this resource: applied again, it may adopt that."""
    subject = f"{kind}/{namespace}/{name}"
    charges = budget.status.charges if budget.status else []
    return any(each.subject == subject and each.state != "Released" for each in charges)


def training_misfit(gate: Gate, training: PoissonSubsampledGaussian, epsilon: str) -> str:
    """What to say of a training that does not fit."""
    most = largest_epsilon_that_fits(
        gate.left,
        gate.order,
        gate.budget.spec.limit.delta,
        training.records,
        training.batch,
        training.steps,
    )
    remedy = (
        f"at most {most} is left at this batch size and number of steps"
        if most
        else "nothing is left for a training at this batch size and number of steps"
    )
    return f"spec.privacy.epsilon: {epsilon} does not fit: {remedy} ({_needs(gate, training)})"


def histogram_misfit(gate: Gate, histogram: DiscreteGaussian) -> str:
    """What to say of a histogram that does not fit."""
    exact = histogram_noise_that_fits(gate.left, gate.order)
    remedy = "nothing is left"
    if exact is not None:
        least = Decimal(exact).quantize(_HUNDREDTH, ROUND_CEILING)
        remedy = f"the noise multiplier must be at least {least}"
    return (
        f"spec.resampling.noiseMultiplier: {histogram.noise} does not fit: {remedy} "
        f"({_needs(gate, histogram)})"
    )


def _needs(gate: Gate, mechanism: Mechanism) -> str:
    return (
        f"needs {_percent(gate.share(mechanism), ROUND_CEILING)} of the gate of PrivacyBudget "
        f'"{gate.budget.name}", {_percent(gate.left_share, ROUND_FLOOR)} is left'
    )


def _percent(share: Decimal, rounding: str) -> str:
    percent = share * 100
    # Below ten per cent the first decimal tells things apart.
    step = Decimal(1) if percent >= 10 else Decimal("0.1")
    return f"{percent.quantize(step, rounding).normalize():f}%"
