"""The section of docs/benchmarks.md that tells of outcomes."""

from __future__ import annotations

from collections.abc import Sequence

from bench.harness import Outcome, Reading, Result


def render(outcomes: Sequence[Outcome], command: str, machine: str, day: str) -> str:
    """The section of the measurements."""
    results = [outcome.result for outcome in outcomes if outcome.result]
    readings = [reading for outcome in outcomes for reading in outcome.readings]
    lines = [f"Last full run: {day}, `{command}`, on {machine}.", ""]
    if results:
        lines += _ratios(results)
    if readings:
        lines += _bounds(readings)
    return "\n".join(lines).rstrip("\n") + "\n"


def _ratios(results: Sequence[Result]) -> list[str]:
    lines = [
        "| benchmark | value | baseline | ratio | interval | goal | holds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in results:
        low, high = row.interval
        lines.append(
            f"| {row.name} | {row.value:.3g} {row.unit} "
            f"| {row.baseline:.3g} {row.unit} | {row.ratio:.2f} "
            f"| {low:.2f} to {high:.2f} | {row.goal:.3g} | {'yes' if row.holds else 'no'} |"
        )
    lines += ["", "What is compared:", ""]
    lines += [f"- **{row.name}**: {row.subject}; against {row.against}." for row in results]
    return [*lines, ""]


def _bounds(readings: Sequence[Reading]) -> list[str]:
    lines = ["| figure | value | at most | holds |", "|---|---|---|---|"]
    for row in readings:
        bound = "stated only | |"
        if row.at_most is not None:
            bound = f"{row.at_most:g} {row.unit} | {'yes' if row.holds else 'no'} |"
        lines.append(f"| {row.name} | {row.value:.3g} {row.unit} | {bound}")
    lines += ["", "What is measured:", ""]
    lines += [f"- **{row.name}**: {row.what}." for row in readings]
    return [*lines, ""]
