"""How sure a win rate is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from palimpsest_stage.alignment.rewards import TIE

CONFIDENCE = 0.95
_Z = 1.959964


@dataclass(frozen=True)
class Duel:
    """Prompts won, lost and tied; `rate` counts ties half, with its Wilson interval.

    `doubts` are counts of what the judge left open.
    """

    wins: int
    losses: int
    ties: int
    rate: float
    low: float
    high: float
    doubts: Mapping[str, int] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """As published."""
        return {
            "wins": self.wins,
            "losses": self.losses,
            "ties": self.ties,
            "winRate": self.rate,
            "low": self.low,
            "high": self.high,
            "confidence": CONFIDENCE,
            **self.doubts,
        }


def finite(figure: float) -> float | None:
    """A figure as JSON can tell it: none where it is no number."""
    return figure if math.isfinite(figure) else None


@dataclass(frozen=True)
class Share:
    """How many of all, with Wilson's interval."""

    rate: float
    low: float
    high: float

    def told(self) -> dict[str, Any]:
        """As published."""
        return {"share": self.rate, "low": self.low, "high": self.high}


def share(kept: Sequence[bool]) -> Share:
    """Of at least one."""
    rate = sum(kept) / len(kept)
    return Share(rate, *wilson(rate, len(kept)))


def duel(
    ours: Sequence[float], theirs: Sequence[float], doubts: Mapping[str, int] | None = None
) -> Duel:
    """Scores of the same prompts against one another. A score that is no number wins nothing."""
    wins = sum(a - b > TIE for a, b in zip(ours, theirs, strict=True))
    ties = sum(abs(a - b) <= TIE for a, b in zip(ours, theirs, strict=True))
    rate = (wins + ties / 2) / len(ours)
    low, high = wilson(rate, len(ours))
    return Duel(wins, len(ours) - wins - ties, ties, rate, low, high, doubts or {})


def wilson(rate: float, trials: int) -> tuple[float, float]:
    """Wilson's score interval (1927) at CONFIDENCE; with ties counted half it is a little wide."""
    spread = _Z * _Z / trials
    middle = (rate + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * math.sqrt(rate * (1 - rate) / trials + spread / (4 * trials))
    return max(0.0, middle - half), min(1.0, middle + half)
