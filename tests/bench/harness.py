"""Runs benchmarks and says whether their goals hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

from bench.statistics import MIN_PAIRS, estimate

Measure = Callable[[], float]


@dataclass(frozen=True)
class Benchmark:
    """What is compared with what. `prepare` returns (subject, baseline); each call of one is one
    measurement in `unit`. A ratio above 1 means that the subject is better; `goal` is a ratio."""

    name: str
    unit: str
    better: Literal["higher", "lower"]
    subject: str
    baseline: str
    goal: float
    prepare: Callable[[], tuple[Measure, Measure]]


@dataclass(frozen=True)
class Result:
    """One line of results.json; `value` and `baseline` are medians."""

    name: str
    value: float
    unit: str
    baseline: float
    ratio: float
    interval: tuple[float, float]
    goal: float
    holds: bool
    pairs: int
    subject: str
    against: str

    def as_json(self) -> dict[str, Any]:
        """As it is stored."""
        return asdict(self)


def run(benchmark: Benchmark, pairs: int = MIN_PAIRS) -> Result:
    """Alternate subject and baseline; every other pair begins with the baseline.

    The goal holds if the whole interval lies at or above it.
    """
    subject, baseline = benchmark.prepare()
    subject()
    baseline()
    values: list[tuple[float, float]] = []
    for index in range(pairs):
        if index % 2:
            against = baseline()
            value = subject()
        else:
            value = subject()
            against = baseline()
        values.append((value, against))
    ratios = [
        value / against if benchmark.better == "higher" else against / value
        for value, against in values
    ]
    found = estimate(ratios)
    return Result(
        name=benchmark.name,
        value=median(value for value, _ in values),
        unit=benchmark.unit,
        baseline=median(against for _, against in values),
        ratio=found.median,
        interval=(found.low, found.high),
        goal=benchmark.goal,
        holds=found.low >= benchmark.goal,
        pairs=pairs,
        subject=benchmark.subject,
        against=benchmark.baseline,
    )
