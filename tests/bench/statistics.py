"""The median of paired ratios with an interval that assumes no distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from statistics import median

MIN_PAIRS = 7


@dataclass(frozen=True)
class Estimate:
    """A median and its interval; `coverage` is the interval's exact confidence."""

    median: float
    low: float
    high: float
    coverage: float


def coverage(pairs: int, rank: int) -> float:
    """Probability that the median lies between the rank-th smallest and the rank-th largest.

    Each value is above the median with probability 1/2, so the count above is binomial.
    """
    return 1.0 - 2.0 * sum(comb(pairs, k) for k in range(rank)) / float(2**pairs)


def estimate(ratios: Sequence[float], confidence: float = 0.95) -> Estimate:
    """The narrowest order-statistic interval of at least `confidence`.

    Raises ValueError for fewer than MIN_PAIRS ratios.
    """
    if len(ratios) < MIN_PAIRS:
        raise ValueError(f"{len(ratios)} pairs: at least {MIN_PAIRS} are needed")
    ranked = sorted(ratios)
    rank = max(r for r in range(1, len(ranked) // 2 + 1) if coverage(len(ranked), r) >= confidence)
    return Estimate(median(ranked), ranked[rank - 1], ranked[-rank], coverage(len(ranked), rank))
