"""python -m bench.audit_table: audits of the right loop and of broken ones, into docs/audit.md."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import torch
from palimpsest.privacy.one_run import guesses_for
from unit.stage import audited
from unit.stage.audited import BROKEN, RIGHT, Loop

from bench.page import ROOT, renew

PAGE = ROOT / "docs" / "audit.md"
CLAIMS = ("1", "2", "3")
# Beyond what 300 canaries can prove.
BEYOND = "8"
ITERATES = 8
LESS = (
    audited.less_noise("a tenth of the noise", 0.1),
    audited.less_noise("half the noise", 0.5),
)

Row = tuple[str, ...]


def rows() -> Iterator[Row]:
    """One training a row."""
    for claim in CLAIMS:
        for loop in (RIGHT, *BROKEN, *LESS, audited.reused_noise()):
            yield _row(claim, loop)
    for loop in (RIGHT, BROKEN[0]):
        yield _row(BEYOND, loop)


def _row(claim: str, loop: Loop) -> Row:
    guesses = guesses_for(audited.CANARIES, audited.BATCH, audited.RECORDS, audited.STEPS)
    settings = audited.settings(claim, guesses.included)
    with loop.run():
        result = audited.audit(settings)
    shortfall = audited.shortfall_of_differences(
        audited.noised_gradients(loop, settings, ITERATES), settings
    )
    row = (
        loop.name,
        claim,
        f"{result.correct} of {guesses.included}",
        result.bound,
        result.confidence,
        result.largest_provable,
        result.verdict,
        f"{shortfall:.1f}",
    )
    print(" | ".join(row), flush=True)
    return row


def table(found: Sequence[Row]) -> str:
    """In Markdown."""
    head = (
        "loop",
        "claimed epsilon",
        "right guesses",
        "lower bound",
        "confidence",
        "largest provable",
        "verdict",
        "difference of iterates",
    )
    lines = [head, ("---",) * len(head), *found]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    """Rewrites the page's table."""
    torch.set_num_threads(1)
    renew(PAGE, "make audit-table", table(list(rows())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
