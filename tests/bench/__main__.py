"""python -m bench [NAME ...]: run benchmarks; all of them also renew docs/benchmarks.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime

from bench import page, table
from bench.catalogue import BENCHMARKS
from bench.harness import Benchmark, Outcome, Reading, Result, run
from bench.statistics import MIN_PAIRS


def main(arguments: list[str]) -> int:
    """Exit status 1 if a goal or a bound does not hold."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which (default: all)")
    parser.add_argument("--pairs", type=int, default=MIN_PAIRS, help="alternations, at least 7")
    given = parser.parse_args(arguments)
    known = {entry.name for entry in BENCHMARKS}
    if set(given.names) - known:
        parser.error(f"known benchmarks: {', '.join(sorted(known))}")
    if given.pairs < MIN_PAIRS:
        parser.error(f"--pairs: at least {MIN_PAIRS}")
    outcomes: list[Outcome] = []
    for entry in BENCHMARKS:
        if given.names and entry.name not in given.names:
            continue
        print(f"{entry.name}: {entry.subject}", flush=True)
        if isinstance(entry, Benchmark):
            print(f"  against {entry.baseline}", flush=True)
        outcome = run(entry, given.pairs)
        outcomes.append(outcome)
        if outcome.result:
            print(f"  {_compared(outcome.result)}", flush=True)
        for reading in outcome.readings:
            print(f"  {_read(reading)}", flush=True)
        # What was found stays found if a later one fails.
        _store(outcomes)
    if not given.names:
        machine = (
            f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}"
        )
        day = datetime.now(UTC).date().isoformat()
        text = table.render(outcomes, "make bench", machine, day)
        page.renew(page.BENCHMARKS, "measurements", text)
    return 0 if all(outcome.holds for outcome in outcomes) else 1


def _compared(result: Result) -> str:
    low, high = result.interval
    return (
        f"{result.value:.3g} against {result.baseline:.3g} {result.unit}: ratio "
        f"{result.ratio:.2f} ({low:.2f} to {high:.2f}), goal {result.goal:.3g}: {_word(result)}"
    )


def _read(reading: Reading) -> str:
    told = f"{reading.name}: {reading.value:.3g} {reading.unit}"
    if reading.at_most is None:
        return told
    return f"{told}, at most {reading.at_most:g}: {_word(reading)}"


def _word(found: Result | Reading) -> str:
    return "holds" if found.holds else "does not hold"


def _store(outcomes: list[Outcome]) -> None:
    folder = page.ROOT / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    found = {
        "ratios": [outcome.result.as_json() for outcome in outcomes if outcome.result],
        "readings": [reading.as_json() for outcome in outcomes for reading in outcome.readings],
    }
    (folder / "results.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
