"""What runbooks say of the logs is so: fields that lines have, words that lines contain."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import palimpsest
import pytest
from unit.docs.pages import DOCS, blocks, lines, sentences
from unit.docs.test_logs import listed

RUNBOOKS = sorted((DOCS / "runbooks").glob("*.md"))
FIELDS = re.compile(r"log line has ([^.:]*)")
LOOKED_FOR = re.compile(r"^kubectl .*\blogs\b[^|]*\| grep (.*)$")


def said() -> Iterator[str]:
    """The messages of the operator's and the admission pods' lines, and their loggers."""
    root = Path(palimpsest.__file__).parent
    for file in root.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            function, told = ast.unparse(node.func), node.args[0]
            if function.startswith("log.") or function in ("act", "tell"):
                yield ".".join(file.relative_to(root.parent).with_suffix("").parts)
                if isinstance(told, ast.Constant):
                    yield str(told.value)


def looked_for() -> list[tuple[str, str]]:
    """The runbooks' words to grep the logs for."""
    return [
        (page.stem, shlex.split(match[1])[-1])
        for page in RUNBOOKS
        for block in blocks(page)
        for line in lines(block)
        if (match := LOOKED_FOR.match(line))
    ]


@pytest.mark.parametrize(("page", "words"), looked_for())
def test_what_is_looked_for_in_the_logs_can_be_there(page: str, words: str) -> None:
    if field := re.fullmatch(r'"(\w+)"', words):
        assert field[1] in listed()
    else:
        assert any(words in each for each in said())


def test_log_lines_have_the_fields_that_runbooks_name() -> None:
    told = [
        set(re.findall(r"`(\w+)`", fields))
        for page in RUNBOOKS
        for fields in FIELDS.findall(" ".join(sentences(page).split()))
    ]
    assert any(told)
    for fields in told:
        assert fields <= listed()
