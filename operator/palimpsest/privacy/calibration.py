"""Noise for an epsilon, and the inverse questions: what still fits."""

from collections.abc import Callable
from decimal import ROUND_FLOOR, Decimal
from functools import lru_cache

from palimpsest.privacy.accountant import ORDERS, epsilon_at, epsilon_rdp, one_step
from palimpsest.privacy.gate import Limit, choose_order, cost_of_steps, renyi_cost, rho, total_cost
from palimpsest.privacy.mechanisms import (
    MAX_RECORDS,
    MAX_STEPS,
    DiscreteGaussian,
    Mechanism,
    PoissonSubsampledGaussian,
)

MIN_EPSILON = Decimal("0.3")
DEFAULT_STEPS = 440
DEFAULT_BATCH = 4096
DEFAULT_HISTOGRAM_NOISE = "10"

# Noise multipliers are searched on this grid, so that the answer is one number, not a tolerance.
_GRID = Decimal("0.00001")
_MIN_TICKS = 30_000  # 0.3: below it nothing here is worth calling private
_MAX_TICKS = 10_000_000_000  # 100,000, the most a mechanism may name


class CalibrationError(ValueError):
    """No noise multiplier answers the question; the message says what would."""


def worst_case_steps(steps: int, restarts: int, checkpoint_interval: int) -> int:
    """Steps to charge: each restart may repeat all work since the last checkpoint."""
    return steps + restarts * checkpoint_interval


@lru_cache(maxsize=4096)
def calibrate_noise(
    epsilon: str | Decimal, delta: str | Decimal, records: int, batch: int, steps: int
) -> str:
    """The smallest noise multiplier, in 1e-5, whose Rényi epsilon at `delta` is at most `epsilon`.

    Raises CalibrationError naming the field that is out of bounds.
    """
    target, chance = Decimal(epsilon), Decimal(delta)
    _check(chance, records, batch, steps)
    if not target.is_finite() or target < MIN_EPSILON:
        raise CalibrationError(f"epsilon: must be at least {MIN_EPSILON}")
    search = _EpsilonSearch(batch / records, steps, float(chance))
    goal = float(target)

    def enough(ticks: int) -> bool:
        return search.epsilon(float(ticks * _GRID)) <= goal

    if enough(_MIN_TICKS):
        most = search.epsilon(float(_MIN_TICKS * _GRID))
        raise CalibrationError(
            f"epsilon: {target} would need less noise than {_noise(_MIN_TICKS)}, which protects "
            f"nobody; ask for at most {_floor(most)}"
        )
    ticks = _smallest(enough)
    if ticks is None:
        raise CalibrationError(
            f"epsilon: {target} cannot be reached at {steps} steps of {batch} out of {records} "
            "records; take fewer steps or smaller batches"
        )
    return _noise(ticks)


def noise_that_fits(left: int, order: int, records: int, batch: int, steps: int) -> str | None:
    """The smallest noise multiplier whose training costs at most `left` units at the gate's order.

    None when nothing fits.
    """

    def fits(ticks: int) -> bool:
        training = PoissonSubsampledGaussian(
            batch=batch, records=records, noiseMultiplier=_noise(ticks), steps=steps
        )
        return renyi_cost(training, order) <= left

    ticks = _smallest(fits)
    return None if ticks is None else _noise(ticks)


def largest_epsilon_that_fits(
    left: int, order: int, delta: str | Decimal, records: int, batch: int, steps: int
) -> str | None:
    """The largest epsilon (to 0.01, rounded down) a training may ask for; None when none fits."""
    noise = noise_that_fits(left, order, records, batch, steps)
    if noise is None:
        return None
    training = PoissonSubsampledGaussian(
        batch=batch, records=records, noiseMultiplier=noise, steps=steps
    )
    epsilon = _floor(epsilon_rdp([training], float(Decimal(delta)))[0])
    return str(epsilon) if epsilon >= MIN_EPSILON else None


def steps_that_fit(left: int, order: int, noise: str, records: int, batch: int) -> int:
    """How many steps at this noise multiplier cost at most `left` units (0 when none)."""
    step = PoissonSubsampledGaussian(batch=batch, records=records, noiseMultiplier=noise, steps=1)
    low, high = 0, MAX_STEPS + 1
    while high - low > 1:
        middle = (low + high) // 2
        if cost_of_steps(step, middle, order) <= left:
            low = middle
        else:
            high = middle
    return low


def default_plan(limit: Limit, records: int) -> list[Mechanism]:
    """Two equal trainings and two histograms that together fill the limit at the best order.

    Where two histograms alone overfill it, two trainings. Raises ValueError when nothing fits.
    """
    batch = min(DEFAULT_BATCH, records)
    histogram = DiscreteGaussian(noiseMultiplier=DEFAULT_HISTOGRAM_NOISE)
    histograms: list[Mechanism] = [histogram, histogram]
    if not _fits(histograms, limit):
        histograms = []

    def plan(ticks: int) -> list[Mechanism]:
        training = PoissonSubsampledGaussian(
            batch=batch, records=records, noiseMultiplier=_noise(ticks), steps=DEFAULT_STEPS
        )
        return [training, training, *histograms]

    ticks = _smallest(lambda ticks: _fits(plan(ticks), limit))
    if ticks is None:
        raise CalibrationError("limit: epsilon is too small for two trainings; name your own plan")
    return plan(ticks)


def _fits(plan: list[Mechanism], limit: Limit) -> bool:
    order = choose_order(plan, limit)
    return total_cost(plan, order) <= rho(limit.epsilon, limit.delta, order)


class _EpsilonSearch:
    """Epsilon of a training as a function of noise; remembers where the best order was.

    Epsilon falls and then rises along the orders, so the search walks downhill from the last best.
    """

    def __init__(self, rate: float, steps: int, delta: float) -> None:
        self._rate, self._steps, self._delta = rate, steps, delta
        self._best = 40

    def epsilon(self, noise: float) -> float:
        values: dict[int, float] = {}

        def at(index: int) -> float:
            if not 0 <= index < len(ORDERS):
                return float("inf")
            if index not in values:
                order = ORDERS[index]
                rdp = self._steps * one_step(self._rate, noise, order)
                values[index] = epsilon_at(rdp, order, self._delta)
            return values[index]

        best, stride = self._best, 16
        while stride:
            if at(best - stride) < at(best):
                best -= stride
            elif at(best + stride) < at(best):
                best += stride
            else:
                stride //= 2
        self._best = best
        return at(best)


def _smallest(holds: Callable[[int], bool]) -> int | None:
    """The least noise, in ticks, from which on `holds`; None when it never does."""
    low, high = _MIN_TICKS, 2 * _MIN_TICKS
    if holds(low):
        return low
    while not holds(high):
        if high == _MAX_TICKS:
            return None
        low, high = high, min(4 * high, _MAX_TICKS)
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high


def _noise(ticks: int) -> str:
    text = f"{ticks * _GRID:f}"
    return text.rstrip("0").rstrip(".")


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
