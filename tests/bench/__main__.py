"""python -m bench [NAME ...]: run benchmarks; all of them also renew docs/benchmarks.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench import table
from bench.catalogue import BENCHMARKS
from bench.harness import run
from bench.statistics import MIN_PAIRS

ROOT = Path(__file__).parents[2]


def main(arguments: list[str]) -> int:
    """Exit status 1 if a goal does not hold."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which (default: all)")
    parser.add_argument("--pairs", type=int, default=MIN_PAIRS, help="alternations, at least 7")
    given = parser.parse_args(arguments)
    known = {benchmark.name for benchmark in BENCHMARKS}
    if set(given.names) - known:
        parser.error(f"known benchmarks: {', '.join(sorted(known))}")
    if given.pairs < MIN_PAIRS:
        parser.error(f"--pairs: at least {MIN_PAIRS}")
    results = []
    for benchmark in BENCHMARKS:
        if given.names and benchmark.name not in given.names:
            continue
        print(f"{benchmark.name}: {benchmark.subject}\n  against {benchmark.baseline}", flush=True)
        result = run(benchmark, given.pairs)
        results.append(result.as_json())
        low, high = result.interval
        print(
            f"  {result.value:.3g} against {result.baseline:.3g} {result.unit}: ratio "
            f"{result.ratio:.2f} ({low:.2f} to {high:.2f}), goal {result.goal:g}: "
            f"{'holds' if result.holds else 'does not hold'}",
            flush=True,
        )
    folder = ROOT / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    if not given.names:
        machine = (
            f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}"
        )
        page = table.render(results, "make bench", machine, datetime.now(UTC).date().isoformat())
        (ROOT / "docs" / "benchmarks.md").write_text(page)
    return 0 if all(result["holds"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
