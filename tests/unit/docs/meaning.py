"""What an epsilon lets an adversary learn about one record, in the worst case. Pure."""

from __future__ import annotations

from math import exp


def posterior(prior: float, epsilon: float) -> float:
    """The most that a belief of `prior` can rise to: its odds grow at most e^epsilon times."""
    odds = exp(epsilon) * prior / (1 - prior)
    return odds / (1 + odds)


def most_detected(false_alarms: float, epsilon: float, delta: float) -> float:
    """The greatest true positive rate of any test with so many false positives.

    Kairouz, Oh and Viswanath 2015: the trade-off that (epsilon, delta)-DP is equivalent to.
    """
    bounds = exp(epsilon) * false_alarms + delta, 1 - exp(-epsilon) * (1 - delta - false_alarms)
    return min(1.0, *bounds)


def of_a_group(records: int, epsilon: float, delta: float) -> tuple[float, float]:
    """(epsilon, delta) for so many records at once: each hop to a neighbour costs one more."""
    deltas = sum(exp(hop * epsilon) for hop in range(records)) * delta
    return records * epsilon, deltas
