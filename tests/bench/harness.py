"""Runs benchmarks and says whether their goals hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal, NamedTuple

from bench.statistics import MIN_PAIRS, estimate

Measure = Callable[[], float]


@dataclass(frozen=True)
class Reading:
    """A figure without a baseline, and the bound it must not exceed (None: it is only stated)."""

    name: str
    value: float
    unit: str
    at_most: float | None
    what: str

    @property
    def holds(self) -> bool:
        """Whether the bound is kept; NaN keeps none."""
        return self.at_most is None or self.value <= self.at_most

    def as_json(self) -> dict[str, Any]:
        """As it is stored."""
        return {**asdict(self), "holds": self.holds}


class Pair(NamedTuple):
    """Subject and baseline; each call of one is one measurement.

    `readings` is asked after the last pair for what else was seen.
    """

    subject: Measure
    baseline: Measure
    readings: Callable[[], Sequence[Reading]] = tuple


@dataclass(frozen=True)
class Benchmark:
    """What is compared with what. A ratio above 1 means that the subject is better; `goal` is a
    ratio, of the whole interval. What `prepare` enters into the stack lasts until the last pair."""

    name: str
    unit: str
    better: Literal["higher", "lower"]
    subject: str
    baseline: str
    goal: float
    prepare: Callable[[ExitStack], Pair]


@dataclass(frozen=True)
class Survey:
    """Readings of one ground, taken once; what `take` enters into the stack lasts as long."""

    name: str
    subject: str
    take: Callable[[ExitStack], Sequence[Reading]]


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


@dataclass(frozen=True)
class Outcome:
    """What one entry of the catalogue found: the comparison, if it makes one, and readings."""

    result: Result | None
    readings: tuple[Reading, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether every goal and bound does."""
        return (self.result is None or self.result.holds) and all(
            reading.holds for reading in self.readings
        )


def run(entry: Benchmark | Survey, pairs: int = MIN_PAIRS) -> Outcome:
    """Measure one entry of the catalogue."""
    with ExitStack() as held:
        if isinstance(entry, Survey):
            return Outcome(None, tuple(entry.take(held)))
        pair = entry.prepare(held)
        result = compare(entry, pair, pairs)
        return Outcome(result, tuple(pair.readings()))


def compare(benchmark: Benchmark, pair: Pair, pairs: int = MIN_PAIRS) -> Result:
    """Alternate subject and baseline; every other pair begins with the baseline.

    One unrecorded call of each comes first. The goal holds if the whole interval lies at or above
    it.
    """
    subject, baseline = pair.subject, pair.baseline
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
