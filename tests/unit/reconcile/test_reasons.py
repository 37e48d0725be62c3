"""Every reason in the code is in the catalogue, and nothing else is; the pages explain each."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from palimpsest import reconcile
from palimpsest.api.outcomes import Outcome
from palimpsest.reconcile.adapter import events
from palimpsest.reconcile.adapter.cluster import Cluster
from palimpsest.reconcile.adapter.ledgers import Unsound
from palimpsest.reconcile.observed import Meta
from palimpsest.reconcile.policies import blockage
from palimpsest.reconcile.reasons import ACTS, READY, REASONS
from unit.docs.pages import DOCS

ROOT = Path(reconcile.__file__).parent
# Where each call that makes a reason has it.
PLACES = {"Verdict": 1, "waiting": 1, "LedgerTrouble": 0, "StoreTrouble": 0, "record": 3}


def made(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """The reasons that a statement or call makes: by what, and the expression."""
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func).rpartition(".")[2]
        if name in PLACES and len(node.args) > PLACES[name]:
            yield name, node.args[PLACES[name]]
        return
    pairs: list[ast.expr] = []
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "(reason, message)":
        whole = node.value
        pairs = [whole.body, whole.orelse] if isinstance(whole, ast.IfExp) else [whole]
    elif isinstance(node, ast.For) and ast.unparse(node.target) == "(reason, message)":
        pairs = list(node.iter.elts) if isinstance(node.iter, ast.Tuple | ast.List) else []
    elif isinstance(node, ast.FunctionDef) and _returns(node) == "tuple[str, str]":
        told = (each.value for each in ast.walk(node) if isinstance(each, ast.Return))
        pairs = [each for each in told if each is not None]
    for pair in pairs:
        if isinstance(pair, ast.Tuple):
            yield "", pair.elts[0]


def _returns(function: ast.FunctionDef) -> str:
    return ast.unparse(function.returns) if function.returns else ""


def calls() -> Iterator[tuple[str, str, ast.expr]]:
    """Each reason as it is written: the module, what makes it, the expression."""
    for file in sorted(ROOT.rglob("*.py")):
        parts = file.relative_to(ROOT.parents[1]).with_suffix("").parts
        module = ".".join(parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(file.read_text())):
            for maker, expression in made(node):
                yield module, maker, expression


def written() -> dict[str, set[str]]:
    """The reasons in the code, by what makes them."""
    found: dict[str, set[str]] = {}
    for module, maker, expression in calls():
        value: Any = None
        if isinstance(expression, ast.Constant):
            value = expression.value
        elif re.fullmatch(r"(\w+\.)?[A-Z_]+", text := ast.unparse(expression)):
            value = importlib.import_module(module)
            for part in text.split("."):
                value = getattr(value, part)
        if isinstance(value, str) and re.fullmatch(r"[A-Z][a-z]+\w*", value):
            found.setdefault(maker, set()).add(value)
    return found


def test_the_catalogue_has_what_the_code_says_and_no_more() -> None:
    found = written()
    assert found.pop("record") == ACTS
    indirect = {*blockage._REMEDIES, *get_args(Unsound), *(each.value for each in Outcome)}
    assert set().union(indirect, *found.values()) - READY == set()
    said = set().union(*(written()[maker] for maker in written()), indirect)
    # Told by an expression: one of two words, or a Job's end.
    rest = {"Queued", "JobSuspended", "Running"}
    assert REASONS - said - rest == set()


def test_pages_explain_each_reason_and_name_no_other() -> None:
    pages = [(DOCS / page).read_text() for page in ("conditions.md", "logs-and-events.md")]
    explained = {
        word
        for page in pages
        for line in page.splitlines()
        if line.startswith("| `")
        for word in re.findall(r"`([A-Z][A-Za-z]+)`", line.split(" | ")[0])
    }
    assert REASONS - explained == set()
    # Standings, and what is of conditions other than Ready.
    others = {"AuditPassed", "Reconciling", "Stalled", "AuditPending", "NoPower", "BoundBelowClaim"}
    assert explained - REASONS - others == set()


def test_no_event_has_another_reason(caplog: pytest.LogCaptureFixture) -> None:
    asked = []

    class Listening(Cluster):
        def __init__(self) -> None:
            pass

        def call(self, *told: Any, **_: Any) -> None:
            asked.append(told[2]["reason"])

    meta = Meta("PrivateGenerator", "n", "g", "u", 1, deleting=False)
    events.record(Listening(), meta, False, "JobCreated", "Created.")
    events.record(Listening(), meta, False, "Invented", "It was.")
    assert asked == ["JobCreated"]
    assert [each.message for each in caplog.records] == ["an Event without a known reason"]
