"""Noise multipliers are searched on a grid, so that an answer is one number, not a tolerance."""

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

from palimpsest.privacy.mechanisms import MAX_NOISE

STEP = Decimal("0.00001")
LEAST = Decimal("0.3")  # below it nothing here is worth calling private

_LEAST_TICKS = int(LEAST / STEP)
_MOST_TICKS = int(MAX_NOISE / STEP)

Amount = int | float | Fraction


def least_noise(cost: Callable[[str], Amount], most: Amount, near: str | None = None) -> str | None:
    """The smallest noise multiplier on the grid whose cost is at most `most`; None if none's is.

    Exact where the cost falls as the noise grows, as every cost and every epsilon does: only
    comparisons decide. Where to look next is a guess by false position, both axes logarithmic
    because costs are nearly powers of the noise, with the halving of Dowell and Jarratt (1971,
    "Illinois"): some eight looks where a bisection takes twenty, fewer from a guess that is `near`.
    """

    def over(ticks: int) -> tuple[bool, float]:
        """Whether that is too little noise, and the logarithm of the cost's ratio to `most`."""
        found = cost(_text(ticks))
        return found > most, _log_ratio(found, most)

    ticks = _LEAST_TICKS if near is None else int(Decimal(near) / STEP)
    beyond, ratio = over(ticks)
    low = high = ticks
    above = below = ratio
    stride = 2.0 if near is None else 1 + 1 / 64
    if beyond:
        while beyond:
            if high == _MOST_TICKS:
                return None
            low, above, high = high, below, min(math.ceil(high * stride), _MOST_TICKS)
            beyond, below = over(high)
            stride = min(stride**2, 4)
    else:
        while not beyond:
            if low == _LEAST_TICKS:
                return _text(low)
            high, below, low = low, above, max(math.floor(low / stride), _LEAST_TICKS)
            beyond, above = over(low)
            stride = min(stride**2, 4)
    before: bool | None = None
    while high - low > 1:
        middle = _between(low, above, high, below)
        beyond, ratio = over(middle)
        if beyond:
            low, above = middle, ratio
            below /= 2 if before is beyond else 1
        else:
            high, below = middle, ratio
            above /= 2 if before is beyond else 1
        before = beyond
    return _text(high)


def _log_ratio(cost: Amount, most: Amount) -> float:
    return math.log(cost / most) if cost > 0 and most > 0 else math.nan


def _between(low: int, above: float, high: int, below: float) -> int:
    """A tick between the two, where the line between them crosses zero if there is one."""
    fall = above - below
    if not (math.isfinite(fall) and fall > 0):
        return (low + high) // 2
    guess = low * (high / low) ** (above / fall)
    return min(max(int(guess), low + 1), high - 1)


def _text(ticks: int) -> str:
    text = f"{ticks * STEP:f}"
    return text.rstrip("0").rstrip(".")
