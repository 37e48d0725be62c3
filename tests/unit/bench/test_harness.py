"""The harness finds what is there and does not find what is not."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from typing import Literal

import pytest
from bench import page, table
from bench.harness import Benchmark, Outcome, Pair, Reading, Result, Survey, run
from bench.statistics import coverage, estimate


def benchmark(
    subject: Callable[[], float],
    baseline: Callable[[], float],
    better: Literal["higher", "lower"] = "higher",
    goal: float = 1.0,
) -> Benchmark:
    return Benchmark("b", "u", better, "s", "t", goal, lambda _: Pair(subject, baseline))


def compared(entry: Benchmark, pairs: int = 7) -> Result:
    found = run(entry, pairs).result
    assert found is not None
    return found


def reading(value: float, at_most: float | None) -> Reading:
    return Reading("memory", value, "MB", at_most, "what a process takes")


def test_coverage_of_the_extremes_of_seven() -> None:
    assert coverage(7, 1) == pytest.approx(1 - 2 / 128)


def test_interval_is_the_narrowest_of_at_least_95_percent() -> None:
    found = estimate([float(n) for n in range(1, 21)])
    assert (found.low, found.high) == (6.0, 15.0)
    assert found.coverage >= 0.95
    assert coverage(20, 7) < 0.95


def test_interval_covers_the_median_as_often_as_it_says() -> None:
    draw = random.Random(3)
    hits = 0
    for _ in range(2000):
        found = estimate([draw.lognormvariate(0, 1) for _ in range(9)])
        hits += found.low <= 1.0 <= found.high
    assert hits / 2000 == pytest.approx(coverage(9, 2), abs=0.02)


def test_six_pairs_are_too_few() -> None:
    with pytest.raises(ValueError, match="at least 7"):
        estimate([1.0] * 6)


def test_drift_of_the_machine_cancels_in_pairs() -> None:
    speed = count(100)
    result = compared(benchmark(lambda: 2.0 * next(speed), lambda: 1.0 * next(speed)), pairs=20)
    assert result.ratio == pytest.approx(2.0, rel=0.01)


def test_less_is_better_turns_the_ratio() -> None:
    result = compared(benchmark(lambda: 1.0, lambda: 4.0, "lower", goal=3.0))
    assert (result.ratio, result.holds) == (4.0, True)


def test_a_goal_within_the_interval_does_not_hold() -> None:
    values = iter([1.0, *(0.9 + 0.04 * n for n in range(9))])
    result = compared(benchmark(lambda: next(values), lambda: 1.0), pairs=9)
    assert result.ratio > 1.0
    assert not result.holds


def test_subject_and_baseline_alternate() -> None:
    order: list[str] = []

    def measure(name: str) -> float:
        order.append(name)
        return 1.0

    run(benchmark(lambda: measure("s"), lambda: measure("b")), pairs=7)
    assert order[2:10] == ["s", "b", "b", "s", "s", "b", "b", "s"]


def test_what_a_benchmark_stands_on_lasts_until_its_readings_are_taken() -> None:
    order: list[str] = []

    def prepare(held: ExitStack) -> Pair:
        held.callback(order.append, "down")

        def readings() -> list[Reading]:
            order.append("read")
            return [reading(1.0, None)]

        return Pair(lambda: 1.0, lambda: 1.0, readings)

    found = run(Benchmark("b", "u", "lower", "s", "t", 1.0, prepare))
    assert order == ["read", "down"]
    assert [each.name for each in found.readings] == ["memory"]


def test_what_a_survey_stands_on_ends_though_it_fails() -> None:
    order: list[str] = []

    def take(held: ExitStack) -> list[Reading]:
        held.callback(order.append, "down")
        raise OSError("no ground")

    with pytest.raises(OSError, match="no ground"):
        run(Survey("s", "what", take))
    assert order == ["down"]


@pytest.mark.parametrize(
    ("value", "at_most", "holds"),
    [
        (150.0, 150.0, True),
        (150.1, 150.0, False),
        (math.nan, 150.0, False),
        (150.1, None, True),
    ],
)
def test_a_bound_holds_up_to_itself_and_what_is_only_stated_always(
    value: float, at_most: float | None, holds: bool
) -> None:
    found = run(Survey("s", "what", lambda _: [reading(1.0, 2.0), reading(value, at_most)]))
    assert found.holds is holds
    assert found.readings[1].as_json()["holds"] is holds


def test_a_benchmark_fails_by_its_readings_too() -> None:
    def prepare(_: ExitStack) -> Pair:
        return Pair(lambda: 1.0, lambda: 1.0, lambda: [reading(3.0, 2.0)])

    found = run(Benchmark("b", "u", "lower", "s", "t", 1.0, prepare))
    assert found.result is not None
    assert found.result.holds
    assert not found.holds


def test_page_has_a_row_a_result_and_a_row_a_reading() -> None:
    text = table.render(
        [
            run(benchmark(lambda: 2.0, lambda: 1.0)),
            Outcome(None, (reading(120.0, 150.0), reading(160.0, 150.0), reading(7.0, None))),
        ],
        "make bench",
        "a machine",
        "2026-01-01",
    )
    assert "| b | 2 u | 1 u | 2.00 | 2.00 to 2.00 | 1 | yes |" in text
    assert "| memory | 120 MB | 150 MB | yes |" in text
    assert "| memory | 160 MB | 150 MB | no |" in text
    assert "| memory | 7 MB | stated only | |" in text
    assert "- **memory**: what a process takes." in text


def test_a_section_is_renewed_and_the_rest_stays() -> None:
    text = "# Title\n<!-- a -->\nold\n<!-- end of a -->\n<!-- b -->\nx\n<!-- end of b -->\n"
    assert page.renewed(text, "a", "new\n") == text.replace("old", "new")
    longer = page.renewed(text, "c", "new")
    assert longer == f"{text}\n<!-- c -->\nnew\n<!-- end of c -->\n"
