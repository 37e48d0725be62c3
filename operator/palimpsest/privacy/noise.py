"""Noise multipliers are searched on a grid, so that an answer is one number, not a tolerance."""

from collections.abc import Callable
from decimal import Decimal

from palimpsest.privacy.mechanisms import MAX_NOISE

STEP = Decimal("0.00001")
LEAST = Decimal("0.3")  # below it nothing here is worth calling private

_LEAST_TICKS = int(LEAST / STEP)
_MOST_TICKS = int(MAX_NOISE / STEP)


def least_noise(holds: Callable[[str], bool]) -> str | None:
    """The smallest noise multiplier on the grid from which on `holds`; None when it never does.

    Bisection: exact where `holds` is monotone, as every cost and every epsilon is in the noise.
    """
    low, high = _LEAST_TICKS, 2 * _LEAST_TICKS
    if holds(_text(low)):
        return _text(low)
    while not holds(_text(high)):
        if high == _MOST_TICKS:
            return None
        low, high = high, min(4 * high, _MOST_TICKS)
    while high - low > 1:
        middle = (low + high) // 2
        if holds(_text(middle)):
            high = middle
        else:
            low = middle
    return _text(high)


def _text(ticks: int) -> str:
    text = f"{ticks * STEP:f}"
    return text.rstrip("0").rstrip(".")
