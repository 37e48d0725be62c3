"""Noise for an epsilon, and the plan that a limit is made for."""

import math
from collections.abc import Sequence
from decimal import ROUND_FLOOR, Decimal
from fractions import Fraction
from functools import lru_cache

from palimpsest.privacy.accountant import ORDERS, epsilon_at, one_step
from palimpsest.privacy.gate import Limit, choose_order, rho, total_cost
from palimpsest.privacy.mechanisms import (
    MAX_RECORDS,
    MAX_STEPS,
    DiscreteGaussian,
    Mechanism,
    PoissonSubsampledGaussian,
)
from palimpsest.privacy.noise import LEAST, least_noise

MIN_EPSILON = Decimal("0.3")
# dp-accounting's alternating series overstates fractional orders a little, the more so the larger
# epsilon and the rate are, and leaves out those at which it does not converge. Aimed this much
# below the target, its figure stays at or below it too for epsilon up to 5 and rates up to 1/5;
# beyond, it may come out some 0.1% higher, or more where an order that it left out is the best.
# Noise is computed from the spec whenever it is reconciled, and a charge's identity from the noise:
# another aim in a later version would have finished trainings run, and paid for, once more.
AIM = Decimal("0.999")
DEFAULT_STEPS = 440
DEFAULT_BATCH = 4096
DEFAULT_HISTOGRAM_NOISE = "10"

_WHOLE = tuple(order for order in ORDERS if float(order).is_integer())


class CalibrationError(ValueError):
    """No noise multiplier answers the question; the message says what would."""


def worst_case_steps(steps: int, restarts: int, checkpoint_interval: int) -> int:
    """Steps to charge: each restart may repeat all work since the last checkpoint."""
    return steps + restarts * checkpoint_interval


@lru_cache(maxsize=4096)
def calibrate_noise(
    epsilon: str | Decimal, delta: str | Decimal, records: int, batch: int, steps: int
) -> str:
    """The smallest noise multiplier, in 1e-5, whose Rényi epsilon at `delta` is AIM * `epsilon`.

    What it reaches lies 0.1% below `epsilon` but for the grid, and never above. Raises
    CalibrationError naming the field that is out of bounds.
    """
    target, chance = Decimal(epsilon), Decimal(delta)
    _check(chance, records, batch, steps)
    if not target.is_finite() or target < MIN_EPSILON:
        raise CalibrationError(f"epsilon: must be at least {MIN_EPSILON}")
    search = EpsilonSearch(batch / records, steps, float(chance))
    goal = float(target * AIM)
    near = least_noise(lambda noise: search.at_whole_orders(float(noise)), goal)
    noise = least_noise(lambda noise: search.epsilon(float(noise)), goal, near)
    if noise is None:
        raise CalibrationError(
            f"epsilon: {target} cannot be reached at {steps} steps of {batch} out of {records} "
            "records; take fewer steps or smaller batches"
        )
    if Decimal(noise) == LEAST:
        raise CalibrationError(
            f"epsilon: {target} would need less noise than {LEAST}, which protects nobody; ask for "
            f"at most {_floor(search.epsilon(float(LEAST)))}"
        )
    return noise


def default_plan(limit: Limit, records: int) -> list[Mechanism]:
    """Two equal trainings and two histograms that together fill the limit at the best order.

    Where two histograms alone overfill it, two trainings. Raises ValueError when nothing fits.
    """
    batch = min(DEFAULT_BATCH, records)
    histogram = DiscreteGaussian(noiseMultiplier=DEFAULT_HISTOGRAM_NOISE)
    histograms: list[Mechanism] = [histogram, histogram]
    if _share(histograms, limit) > 1:
        histograms = []

    def plan(noise: str) -> list[Mechanism]:
        training = PoissonSubsampledGaussian(
            batch=batch, records=records, noiseMultiplier=noise, steps=DEFAULT_STEPS
        )
        return [training, training, *histograms]

    noise = least_noise(lambda noise: _share(plan(noise), limit), 1)
    if noise is None:
        raise CalibrationError("limit: epsilon is too small for two trainings; name your own plan")
    return plan(noise)


def _share(plan: list[Mechanism], limit: Limit) -> Fraction:
    """The part of the limit that the plan takes at its best order."""
    order = choose_order(plan, limit)
    return Fraction(total_cost(plan, order), rho(limit.epsilon, limit.delta, order))


class EpsilonSearch:
    """Epsilon of a training as a function of noise; remembers where the best order was.

    A little more or less noise seldom moves the best order far. Whole orders are some ten times
    cheaper than those between, so the first look is at them.
    """

    def __init__(self, rate: float, steps: int, delta: float) -> None:
        self._rate, self._steps, self._delta = rate, steps, delta
        self._whole = 0  # at the least noise, where a search begins, the best order is small
        self._best: int | None = None

    def epsilon(self, noise: float) -> float:
        """Epsilon at the best order, as `epsilon_rdp` finds it."""
        if self._best is None:
            self.at_whole_orders(noise)
            self._best = ORDERS.index(_WHOLE[self._whole])
        self._best, epsilon = self._downhill(noise, ORDERS, self._best)
        return epsilon

    def at_whole_orders(self, noise: float) -> float:
        """Epsilon at the best whole order: never below `epsilon`, and little above it."""
        self._whole, epsilon = self._downhill(noise, _WHOLE, self._whole)
        return epsilon

    def _downhill(self, noise: float, orders: Sequence[float], best: int) -> tuple[int, float]:
        """Where epsilon is least, and how much it is.

        It falls and then rises along the orders: the walk goes downhill from the last best, by
        longer strides while they help. But where it is 0 at all, because delta alone suffices, it
        is at the least order.
        """
        values: dict[int, float] = {}

        def at(index: int) -> float:
            if not 0 <= index < len(orders):
                return math.inf
            if index not in values:
                rdp = self._steps * one_step(self._rate, noise, orders[index])
                values[index] = epsilon_at(rdp, orders[index], self._delta)
            return values[index]

        if at(0) == 0:
            return 0, 0.0
        stride = 1
        while stride:
            if at(best - stride) < at(best):
                best, stride = best - stride, 2 * stride
            elif at(best + stride) < at(best):
                best, stride = best + stride, 2 * stride
            else:
                stride //= 2
        return best, at(best)


def _floor(epsilon: float) -> Decimal:
    return Decimal(epsilon).quantize(Decimal("0.01"), ROUND_FLOOR)


def _check(delta: Decimal, records: int, batch: int, steps: int) -> None:
    if not delta.is_finite() or not 0 < delta < 1:
        raise CalibrationError("delta: must lie between 0 and 1")
    if not 1 <= records <= MAX_RECORDS:
        raise CalibrationError(f"records: must lie between 1 and {MAX_RECORDS}")
    if not 1 <= batch <= records:
        raise CalibrationError("batch: must lie between 1 and records")
    if not 1 <= steps <= MAX_STEPS:
        raise CalibrationError(f"steps: must lie between 1 and {MAX_STEPS}")
