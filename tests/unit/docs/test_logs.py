"""The page lists every field that a line of the logs may have."""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import palimpsest
import palimpsest_stage
from palimpsest.telemetry import logs
from unit.docs.pages import DOCS

PAGE = (DOCS / "logs-and-events.md").read_text()
# Of every line.
COMMON = {"time", "level", "logger", "message", "error", "stack"}
BINDING = ("bind", "act", "tell")


def listed() -> set[str]:
    """The fields of the page's table."""
    table = PAGE.partition("| Field |")[2].partition("\n\n")[0]
    rows = (line.split(" | ")[0] for line in table.splitlines() if line.startswith("| `"))
    return {field for row in rows for field in re.findall(r"`(\w+)`", row)}


def named(call: ast.Call) -> Iterator[str | None]:
    """The fields that a call adds; None where the source does not say."""
    function = ast.unparse(call.func)
    if function.startswith("log."):
        for each in call.keywords:
            if each.arg == "extra":
                assert isinstance(each.value, ast.Dict), ast.unparse(call)
                for key in each.value.keys:
                    yield str(key.value) if isinstance(key, ast.Constant) else None
    elif function.rpartition(".")[2] in BINDING:
        for each in call.keywords:
            yield each.arg


def written() -> set[str | None]:
    """The fields that the sources name."""
    roots = (Path(palimpsest.__file__).parent, Path(palimpsest_stage.__file__).parent)
    return {
        field
        for root in roots
        for file in root.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        for field in named(node)
    }


def test_the_page_lists_the_fields_that_there_are() -> None:
    # ** stands for fields that another call names, or (of a charge) for these two.
    assert written() - {None} | COMMON | {"stage", "charge"} == listed()


def test_a_line_has_what_is_bound_around_it_and_nothing_after_it() -> None:
    logger = logging.getLogger("palimpsest.test")
    lines: list[dict[str, str]] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(logs.JsonFormatter().format(record)))

    handler = Kept()
    logger.addHandler(handler)
    try:
        with logs.scope():
            logs.bind(kind="PrivateGenerator", name="g", namespace="")
            with logs.scope():
                logs.bind(stage="train")
                logger.warning("within", extra={"error": "E"})
            logger.warning("between")
        logger.warning("after")
    finally:
        logger.removeHandler(handler)
    for line in lines:
        assert {"time", "level", "logger", "message"} <= line.keys()
        for field in ("time", "level", "logger"):
            del line[field]
    of = {"kind": "PrivateGenerator", "name": "g"}
    assert lines == [
        {"message": "within", **of, "stage": "train", "error": "E"},
        {"message": "between", **of},
        {"message": "after"},
    ]


def test_the_levels_are_those_that_the_chart_takes() -> None:
    schema = json.loads((DOCS.parent / "charts/palimpsest/values.schema.json").read_text())
    assert tuple(schema["properties"]["logLevel"]["enum"]) == logs.LEVELS
