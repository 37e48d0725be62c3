"""docs/benchmarks.md from results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

HEAD = """# Benchmarks

Subject and baseline are alternated in one process; the ratio is the median of the paired ratios
(above 1: the subject is better) with a distribution-free interval of at least 95 %. A goal holds if
the whole interval lies at or above it.

"""


def render(results: Sequence[Mapping[str, Any]], command: str, machine: str, day: str) -> str:
    """The page."""
    lines = [
        HEAD + f"Last full run: {day}, `{command}`, on {machine}.",
        "",
        "| benchmark | value | baseline | ratio | interval | goal | holds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in results:
        low, high = row["interval"]
        lines.append(
            f"| {row['name']} | {row['value']:.3g} {row['unit']} "
            f"| {row['baseline']:.3g} {row['unit']} | {row['ratio']:.2f} "
            f"| {low:.2f} to {high:.2f} | {row['goal']:g} | {'yes' if row['holds'] else 'no'} |"
        )
    lines += ["", "What is compared:", ""]
    lines += [
        f"- **{row['name']}**: {row['subject']}; against {row['against']}." for row in results
    ]
    return "\n".join(lines) + "\n"
