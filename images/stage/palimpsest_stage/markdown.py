"""Texts of artifacts inside Markdown."""

LONGEST = 300


def plain(text: str) -> str:
    """One line of Markdown that shows the text, as far as LONGEST, and does nothing else."""
    flat = " ".join(text.split())[:LONGEST]
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in flat)
