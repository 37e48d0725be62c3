"""Sections of the handbook's pages that a program writes, each between marks of its own."""

from __future__ import annotations

from pathlib import Path

from cluster.cache import write_atomic

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "docs" / "benchmarks.md"


def renew(page: Path, section: str, text: str) -> None:
    """Replace what stands on the page between a section's marks; a new one comes last."""
    write_atomic(page, renewed(page.read_text(), section, text))


def renewed(page: str, section: str, text: str) -> str:
    """The page with another text in a section."""
    begin, end = f"<!-- {section} -->", f"<!-- end of {section} -->"
    before, found, rest = page.partition(begin)
    after = rest.partition(end)[2] if found else "\n"
    before = before if found else f"{page.rstrip()}\n\n"
    return f"{before}{begin}\n{text.strip()}\n{end}{after}"
