"""A budget's status and spec against the journal."""

import copy
from typing import Any

import pytest
from palimpsest.api.budget import PrivacyBudget
from palimpsest.audit.findings import Code, Finding
from palimpsest.audit.journal import Replay
from palimpsest.audit.status import audit_status
from unit.audit.ground import PLACE, built, name, replayed, resource

ENTRIES = 30


@pytest.fixture(scope="module")
def journal() -> Replay:
    return replayed(built(ENTRIES))


def audit(journal: Replay, *path: object, value: object = None) -> list[Finding]:
    """The findings when the field at `path` of the budget is `value`."""
    raw: Any = copy.deepcopy(resource(journal.state))
    if path:
        node = raw
        for part in path[:-1]:
            node = node[part]
        node[path[-1]] = value
    budget = PrivacyBudget.model_validate({"spec": raw["spec"], "status": raw.get("status")})
    return audit_status(budget.spec, budget.status, journal, "chat", PLACE)


def test_the_journals_own_status_is_sound(journal: Replay) -> None:
    assert audit(journal) == []


def test_a_status_may_lag_behind(journal: Replay) -> None:
    for sequence in range(1, ENTRIES):
        earlier = journal.at(sequence)
        assert earlier is not None
        raw = resource(earlier)
        raw["spec"] = resource(journal.state)["spec"]
        budget = PrivacyBudget.model_validate({"spec": raw["spec"], "status": raw["status"]})
        assert audit_status(budget.spec, budget.status, journal, "chat", PLACE) == [], sequence


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("gateOrder",), 5),
        (("shares", "committed"), "0.0001"),
        (("shares", "reserved"), "0.5"),
        (("shares", "left"), "1"),
        (("shares", "left"), "NaN"),
        (("shares", "left"), ""),
        (("shares",), None),
        (("charges", 0, "share"), "0.9"),
        (("charges", 0, "state"), "Reserved"),
        (("charges", 0, "subject"), "PrivateGenerator/team-a/other"),
        (("charges", 0, "id"), "sha256:" + "0" * 64),
    ],
)
def test_an_edited_status_is_found(
    journal: Replay, path: tuple[object, ...], value: object
) -> None:
    found = audit(journal, "status", *path, value=value)
    assert {finding.code for finding in found} == {Code.S001}
    assert found[0].what.startswith(f"status.{path[0]}")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("dataset", "records"), 14_999),
        (("dataset", "textField"), "text"),
        (("limit", "epsilon"), "8"),
        (("limit", "epsilon"), "7"),
        (("limit", "delta"), "1e-6"),
    ],
)
def test_another_spec_is_found(journal: Replay, path: tuple[str, ...], value: object) -> None:
    found = audit(journal, "spec", *path, value=value)
    assert [finding.code for finding in found] == [Code.S002]
    assert ".".join(path) in found[0].what


def test_a_journal_behind_its_status_is_found(journal: Replay) -> None:
    shorter = replayed({name(n): built(ENTRIES)[name(n)] for n in range(ENTRIES - 1)})
    raw = resource(journal.state)
    budget = PrivacyBudget.model_validate({"spec": raw["spec"], "status": raw["status"]})
    found = audit_status(budget.spec, budget.status, shorter, "chat", PLACE)
    assert [finding.code for finding in found] == [Code.J007]


def test_another_head_is_found(journal: Replay) -> None:
    found = audit(journal, "status", "head", "digest", value="sha256:" + "0" * 64)
    assert [finding.code for finding in found] == [Code.J008]


def test_a_budget_without_a_status_could_not_be_checked(journal: Replay) -> None:
    found = audit(journal, "status", value=None)
    assert [finding.code for finding in found] == [Code.S003]
