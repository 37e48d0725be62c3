"""The documentation's pages and what they show: blocks of code, commands, links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = sorted(DOCS.rglob("*.md"))
ALL = [README, *PAGES]

_FENCED = re.compile(
    r"^(?P<pad> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=pad)```$", re.M | re.S
)
_INDENTED = re.compile(r"(?:^|\n)\n((?: {4,}[^\n]*\n(?:\n(?= {4}))?)+)")
_SNIPPET = re.compile(r'^--8<-- "([^"]+)"$', re.M)
_INLINE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """A block of code: its page, the language that its fence names, its text."""

    page: str
    language: str
    text: str


def name(page: Path) -> str:
    """A page's name in test reports."""
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    """Every fenced block, snippets put in, and every indented one."""
    text = page.read_text()
    fenced = [
        Block(name(page), match["language"], _whole(dedent(match["text"])))
        for match in _FENCED.finditer(text)
    ]
    rest = _FENCED.sub("\n", text)
    indented = [Block(name(page), "", dedent(each)) for each in _INDENTED.findall(rest)]
    return [*fenced, *indented]


def sentences(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCED.sub("", page.read_text())


def inline(page: Path) -> list[str]:
    """What stands between backticks in a page's sentences."""
    return _INLINE.findall(sentences(page))


def lines(block: Block) -> Iterator[str]:
    """A block's lines as a shell reads them: those that end in a backslash go on."""
    for line in block.text.replace("\\\n", " ").splitlines():
        yield line.strip().removeprefix("$ ")


def _whole(text: str) -> str:
    return _SNIPPET.sub(lambda match: (ROOT / match[1]).read_text(), text)
