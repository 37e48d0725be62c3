"""An audit as the status shows it: asked for, refused, passed, failed and never forgotten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from palimpsest.api.common import Condition
from palimpsest.api.generator import PrivateGeneratorStatus
from palimpsest.api.outcomes import MESSAGES, Outcome
from palimpsest.ledger import Journal
from palimpsest.reconcile.adapter.ledgers import opening
from palimpsest.reconcile.generator import reconcile
from palimpsest.reconcile.observed import (
    LedgerTrouble,
    StoreTrouble,
)
from palimpsest.reconcile.plan import Commit, Plan, Reserve
from unit.ledger.folder_store import FolderStore
from unit.reconcile.budgets import URI
from unit.reconcile.generators import NOW, World, generator, paying


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., World]:
    def make(**changes: Any) -> World:
        journal = Journal(FolderStore(tmp_path), URI)
        journal.open(*opening(paying().spec))
        return World(journal, generator(**changes))

    return make


def told(plan: Plan) -> tuple[dict[str, Any], dict[str, Any]]:
    """(status.audit, the condition AuditPassed)."""
    assert plan.status is not None
    (found,) = [each for each in plan.status["conditions"] if each["type"] == "AuditPassed"]
    return plan.status["audit"], found


def test_before_the_training_it_says_what_can_be_proved(made: Callable[..., World]) -> None:
    plan = made().reconciled()
    assert [type(action) for action in plan.ledger] == [Reserve]
    audit, condition = told(plan)
    assert audit == {
        "claim": "3",
        "confidence": "0.95",
        "guesses": 73,
        "largestProvable": "3.155",
        "verdict": "Pending",
    }
    assert (condition["status"], condition["reason"]) == ("Unknown", "AuditPending")
    assert "3.155" in condition["message"]


def test_without_an_audit_there_is_no_such_condition(made: Callable[..., World]) -> None:
    world = made()
    spec = world.known.spec.model_copy(update={"audit": None})
    plan = World(world.journal, world.known.model_copy(update={"spec": spec})).reconciled()
    assert plan.status is not None
    assert "audit" not in plan.status
    assert "AuditPassed" not in {each["type"] for each in plan.status["conditions"]}


def test_an_audit_without_power_is_refused_where_it_is_required(
    made: Callable[..., World],
) -> None:
    plan = made(canaries=100).reconciled()
    assert plan.ledger == ()
    assert plan.status is not None
    assert plan.status["summary"] == "AuditPowerless"
    (stalled,) = [each for each in plan.status["conditions"] if each["type"] == "Stalled"]
    assert "take 525 canaries" in stalled["message"]
    assert told(plan)[1]["reason"] == "NoPower"


def test_an_audit_without_power_runs_where_it_is_not_required(made: Callable[..., World]) -> None:
    world = made(canaries=100, required=False)
    plan = world.reconciled()
    assert [type(action) for action in plan.ledger] == [Reserve]
    audit, condition = told(plan)
    assert audit["verdict"] == "NoPower"
    assert (condition["status"], condition["reason"]) == ("Unknown", "NoPower")
    answers = world.begun().settled("completed").published(world.result(1))
    audit, condition = told(world.reconciled(answers))
    assert (audit["bound"], audit["verdict"]) == ("0", "NoPower")
    assert condition["status"] == "Unknown"


def test_a_release_that_passed_tells_its_bound(made: Callable[..., World]) -> None:
    world = made().begun().settled("completed")
    plan = world.reconciled(world.published(world.result(60)))
    audit, condition = told(plan)
    assert audit["verdict"] == "Passed"
    assert 0 < float(audit["bound"]) < 3
    assert (condition["status"], condition["reason"]) == ("True", "BoundBelowClaim")
    assert plan.status is not None
    # Nothing but the receipt is left to do.
    assert plan.status["summary"] in ("SigningReceipt", "Ready")


def test_a_failed_audit_commits_in_full_and_is_not_tried_again(
    made: Callable[..., World],
) -> None:
    world = made().begun()
    plan = world.reconciled(jobs=(world.job(Outcome.AUDIT_FAILED),))
    assert plan.ledger == (Commit(world.stage.charge.id, "full"),)
    assert plan.children == ()
    audit, condition = told(plan)
    assert audit["verdict"] == "Failed"
    assert "bound" not in audit
    assert (condition["status"], condition["reason"]) == ("False", "AuditFailed")
    assert condition["message"] == MESSAGES[Outcome.AUDIT_FAILED]
    later = world.settled("full").reconciled(jobs=(world.job(Outcome.AUDIT_FAILED),))
    assert (later.ledger, later.children, later.requeue) == ((), (), None)
    assert later.status is not None
    assert later.status["summary"] == "AuditFailed"


def test_a_failed_audit_is_not_forgotten_with_its_job(made: Callable[..., World]) -> None:
    world = made().begun().settled("full")
    failed = world.reconciled(jobs=(world.job(Outcome.AUDIT_FAILED),)).status
    world.known = generator(status=failed)
    plan = world.reconciled()
    assert plan.status is not None
    assert plan.status["summary"] == "AuditFailed"
    assert told(plan) == told(Plan(status=failed))


def test_another_failure_is_no_finding_of_the_audit(made: Callable[..., World]) -> None:
    world = made().begun()
    audit, condition = told(world.reconciled(jobs=(world.job(Outcome.INTERNAL_ERROR),)))
    assert (audit["verdict"], condition["status"]) == ("Pending", "Unknown")


def test_an_unsound_journal_is_said_before_a_failed_audit(made: Callable[..., World]) -> None:
    world = made().begun().settled("full")
    failed = world.reconciled(jobs=(world.job(Outcome.AUDIT_FAILED),)).status
    world.known = generator(status=failed)
    observed = world.observed()
    assert observed.budget is not None
    trouble = LedgerTrouble("JournalShorterThanStatus", "cut", unsound=True)
    plan = reconcile(replace(observed, budget=replace(observed.budget, ledger=trouble)), NOW)
    assert plan.status is not None
    assert plan.status["summary"] != "AuditFailed"
    assert told(plan)[0]["verdict"] == "Failed"


@pytest.mark.parametrize("tampering", ["gone", "edited", "other figures", "a failed one"])
def test_a_release_without_a_sound_audit_is_not_ready(
    made: Callable[..., World], tampering: str
) -> None:
    world = made().begun().settled("completed")
    result = world.result(60)
    if tampering == "other figures":
        result = result.model_copy(update={"bound": "0.1"})
    if tampering == "a failed one":
        result = world.result(73)
        assert result.verdict == "Failed"
    answers = world.published(result, b" " if tampering == "edited" else b"")
    if tampering == "gone":
        answers = {uri: data for uri, data in answers.items() if "audit" not in uri}
    plan = world.reconciled(answers)
    assert plan.status is not None
    assert plan.status["summary"] == "AuditInvalid"
    audit, condition = told(plan)
    assert (audit["verdict"], condition["status"]) == ("Pending", "Unknown")


def test_a_store_that_does_not_answer_is_asked_again(made: Callable[..., World]) -> None:
    world = made().begun().settled("completed")
    answers = world.published(world.result(60))
    for uri in answers:
        if uri.endswith("audit.json"):
            answers[uri] = StoreTrouble("StoreUnavailable", "no answer")
    plan = world.reconciled(answers)
    assert plan.status is not None
    assert plan.status["summary"] == "StoreUnavailable"
    assert plan.requeue is not None


def test_the_status_can_be_read_back(made: Callable[..., World]) -> None:
    status = made().reconciled().status
    parsed = PrivateGeneratorStatus.model_validate(status)
    assert parsed.audit is not None
    assert all(isinstance(each, Condition) for each in parsed.conditions)
