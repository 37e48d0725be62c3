"""The inverse questions: what fits into `left` units at the gate's order.

Every answer is found by a search over a grid (noise multipliers in 1e-5, whole steps, epsilons in
0.01) with the gate's own integer costs, which are monotone: it is the best on its grid, and what it
names is granted when exactly that is asked for. Costs: Mironov, Talwar and Zhang 2019, section 3.3
(see `gate`); epsilons: Canonne, Kamath and Steinke 2020, proposition 12 (see `accountant`).
"""

from collections.abc import Callable
from decimal import ROUND_FLOOR, Decimal

from palimpsest.privacy.calibration import AIM, MIN_EPSILON, EpsilonSearch
from palimpsest.privacy.gate import cost_of_steps, renyi_cost
from palimpsest.privacy.mechanisms import MAX_STEPS, DiscreteGaussian, PoissonSubsampledGaussian
from palimpsest.privacy.noise import LEAST, STEP, least_noise

_EPSILON_STEP = Decimal("0.01")


def noise_that_fits(left: int, order: int, records: int, batch: int, steps: int) -> str | None:
    """The smallest noise multiplier whose training costs at most `left` units; None if none does.

    Raises ValueError for a training that no mechanism describes.
    """
    return least_noise(
        lambda noise: renyi_cost(_training(noise, records, batch, steps), order), left
    )


def histogram_noise_that_fits(left: int, order: int) -> str | None:
    """The smallest noise multiplier whose histogram costs at most `left` units; None if none."""
    return least_noise(
        lambda noise: renyi_cost(DiscreteGaussian(noiseMultiplier=noise), order), left
    )


def largest_epsilon_that_fits(
    left: int, order: int, delta: str | Decimal, records: int, batch: int, steps: int
) -> str | None:
    """The largest epsilon (in 0.01) that a training may ask for; None when none fits.

    The noise that is calibrated to it decides, so what is answered is granted when it is asked for.
    """
    noise = noise_that_fits(left, order, records, batch, steps)
    if noise is None:
        return None
    # An epsilon is granted this noise or more if what it aims at lies below what the next smaller
    # noise reaches; at the least noise of all, below what that reaches.
    search = EpsilonSearch(batch / records, steps, float(Decimal(delta)))
    reached = search.epsilon(float(max(LEAST, Decimal(noise) - STEP)))

    def granted(epsilon: Decimal) -> bool:
        return float(epsilon * AIM) < reached

    epsilon = (Decimal(reached) / AIM).quantize(_EPSILON_STEP, ROUND_FLOOR)
    if not granted(epsilon):
        epsilon -= _EPSILON_STEP
    return str(epsilon) if epsilon >= MIN_EPSILON else None


def steps_that_fit(left: int, order: int, noise: str, records: int, batch: int) -> int:
    """How many steps at this noise multiplier cost at most `left` units (0 when none)."""
    step = _training(noise, records, batch, 1)
    return _most(lambda steps: cost_of_steps(step, steps, order) <= left, MAX_STEPS)


def times_that_fit(left: int, cost: int) -> int:
    """How often a charge of `cost` units fits."""
    return left // cost if cost > 0 else 0


def _most(holds: Callable[[int], bool], bound: int) -> int:
    """The largest count up to `bound` that `holds`; 0 always does."""
    low, high = 0, bound + 1
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


def _training(noise: str, records: int, batch: int, steps: int) -> PoissonSubsampledGaussian:
    return PoissonSubsampledGaussian(
        batch=batch, records=records, noiseMultiplier=noise, steps=steps
    )
