"""Conditions: kstatus' three agree with the verdict, transition times move only on change."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import pytest
from palimpsest.api.common import StageStatus
from palimpsest.reconcile.conditions import Verdict, conditions, refused

T0 = datetime(2026, 1, 1, tzinfo=UTC)
T1 = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("Ready", {"Ready": "True", "Reconciling": "False", "Stalled": "False"}),
        ("Reconciling", {"Ready": "False", "Reconciling": "True", "Stalled": "False"}),
        ("Stalled", {"Ready": "False", "Reconciling": "False", "Stalled": "True"}),
    ],
)
def test_three_conditions_say_one_thing(state: str, expected: dict[str, str]) -> None:
    verdict = Verdict(state, "Reason", "message")  # type: ignore[arg-type]
    made = conditions([], verdict, [], 3, T0)
    assert {item.type: item.status for item in made} == expected
    assert {item.observed_generation for item in made} == {3}


def test_transition_time_moves_only_when_the_status_changes() -> None:
    first = conditions([], Verdict("Reconciling", "Pending", "a"), [], 1, T0)
    same = conditions(first, Verdict("Reconciling", "Running", "b"), [], 1, T1)
    assert [item.last_transition_time for item in same] == ["2026-01-01T00:00:00Z"] * 3
    ready = {
        item.type: item.last_transition_time
        for item in conditions(same, Verdict("Ready", "Ready", ""), [], 1, T1)
    }
    assert ready == {
        "Ready": "2026-01-02T00:00:00Z",
        "Reconciling": "2026-01-02T00:00:00Z",
        "Stalled": "2026-01-01T00:00:00Z",
    }


def test_every_stage_has_a_condition_of_its_own() -> None:
    stages = [
        StageStatus(name="sample", state="Succeeded"),
        StageStatus(name="histogram", state="Failed", message="why"),
    ]
    made = {item.type: item for item in conditions([], Verdict("Stalled", "X", ""), stages, 1, T0)}
    assert made["Sampled"].status == "True"
    assert (made["Counted"].status, made["Counted"].message) == ("False", "why")


def test_a_message_longer_than_the_schema_allows_is_cut() -> None:
    made = conditions([], Verdict("Stalled", "X", "m" * 5000), [], 1, T0)
    assert len(made[0].message) == 1024


@pytest.mark.parametrize(("state", "stays"), [("Ready", True), ("Reconciling", False)])
def test_a_job_that_is_refused_takes_nothing_back_that_is_published(
    state: Literal["Ready", "Reconciling"], stays: bool
) -> None:
    """The one that deletes intermediates, where a quota has no room for it."""
    made = conditions([], Verdict(state, "Before", "message"), [], 3, T0)
    status = {"summary": "Before", "conditions": [each.model_dump(by_alias=True) for each in made]}
    told = refused(status, "QuotaExceeded", "no room", T1)
    assert (told == status) == stays
    assert told["summary"] == ("Before" if stays else "QuotaExceeded")
