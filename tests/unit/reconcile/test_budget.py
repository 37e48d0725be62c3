"""A budget's status repeats its journal; one that contradicts what is remembered stops it."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from palimpsest.api.budget import PrivacyBudget, PrivacyBudgetStatus
from palimpsest.ledger import Journal, LedgerState
from palimpsest.reconcile.budget import (
    LATEST_CHARGES,
    below_spent,
    guarantee,
    reconcile,
    usable,
)
from palimpsest.reconcile.observed import Custody, LedgerTrouble, Objects, ObservedBudget
from palimpsest.reconcile.plan import Open, Plan
from unit.ledger.folder_store import DATA, HISTOGRAM, LIMIT, ORDER, FolderStore, subject, task
from unit.reconcile.budgets import URI, budget, view

T0 = datetime(2026, 1, 1, tzinfo=UTC)
T1 = datetime(2026, 1, 2, tzinfo=UTC)
SHORTER = LedgerTrouble("JournalShorterThanStatus", "entry 3 is remembered", unsound=True)
CHANGED = LedgerTrouble("JournalEntryChanged", "entry 3 is another", unsound=True)
UNSOUND = LedgerTrouble("LedgerUnsound", "entry 3: totals do not add up", unsound=True)
AWAY = LedgerTrouble("StoreUnavailable", "no answer from the store")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    journal = Journal(FolderStore(tmp_path), URI)
    journal.open(DATA, LIMIT, ORDER)
    journal.reserve(subject(), task(), HISTOGRAM)
    return journal


def decide(of: PrivacyBudget, ledger: LedgerState | LedgerTrouble, now: datetime = T0) -> Plan:
    return reconcile(ObservedBudget(view(of, ledger), Objects()), now)


def after(plan: Plan) -> PrivacyBudget:
    """The budget with the status that the plan writes."""
    return budget(PrivacyBudgetStatus.model_validate(plan.status))


def condition(plan: Plan, kind: str = "LedgerVerified") -> dict[str, Any]:
    assert plan.status is not None
    return next(each for each in plan.status["conditions"] if each["type"] == kind)


def test_a_sound_journal_is_repeated_and_said_to_be_verified(journal: Journal) -> None:
    plan = decide(budget(), journal.state)
    assert plan.status is not None
    head = journal.state.head
    assert head is not None
    assert plan.status["head"] == {"sequence": 1, "digest": head.digest}
    assert condition(plan)["status"] == "True"
    assert condition(plan, "Ready")["status"] == "True"
    assert usable(view(budget(), journal.state)) is None


def test_a_budget_that_reads_other_files_than_the_journal_names_is_held(journal: Journal) -> None:
    of = budget()
    dataset = of.spec.dataset.model_copy(update={"format": "Parquet"})
    other = of.model_copy(update={"spec": of.spec.model_copy(update={"dataset": dataset})})
    stalled = condition(decide(other, journal.state), "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "JournalMismatch")
    assert stalled["message"].startswith("spec.dataset.format is Parquet")


def test_a_budget_that_would_release_among_its_data_charges_nothing(journal: Journal) -> None:
    of = budget()
    releases = of.spec.releases.model_copy(update={"uri": f"{of.spec.dataset.uri}released/"})
    other = of.model_copy(update={"spec": of.spec.model_copy(update={"releases": releases})})
    for state in (journal.state, LedgerState()):
        plan = decide(other, state)
        assert not plan.ledger
        assert condition(plan, "Stalled")["reason"] == "PlacesOverlap"
        held = usable(view(other, state))
        assert held is not None
        assert (held.state, held.reason) == ("Stalled", "PlacesOverlap")


@pytest.mark.parametrize("trouble", [SHORTER, CHANGED, UNSOUND])
def test_tampering_stops_the_budget_and_keeps_what_was_known(
    trouble: LedgerTrouble, journal: Journal
) -> None:
    before = after(decide(budget(), journal.state))
    plan = decide(before, trouble, T1)
    verified = condition(plan)
    assert (verified["status"], verified["reason"]) == ("False", trouble.reason)
    assert verified["message"] == trouble.message
    assert verified["lastTransitionTime"] == "2026-01-02T00:00:00Z"
    assert condition(plan, "Stalled")["status"] == "True"
    assert plan.ledger == ()
    assert plan.status is not None
    # The summary is what changes into an Event.
    assert plan.status["summary"] == trouble.reason
    kept = ("head", "shares", "charges", "gateOrder", "guarantee", "journal")
    old = decide(budget(), journal.state).status
    assert old is not None
    assert {key: plan.status[key] for key in kept} == {key: old[key] for key in kept}
    assert plan.requeue is not None


@pytest.mark.parametrize("trouble", [SHORTER, CHANGED, UNSOUND])
def test_nobody_charges_a_budget_whose_journal_was_tampered_with(trouble: LedgerTrouble) -> None:
    held = usable(view(budget(), trouble))
    assert held is not None
    assert (held.state, held.reason) == ("Stalled", trouble.reason)
    assert "PrivacyBudget chat" in held.message
    assert trouble.message in held.message


def test_a_journal_that_is_back_is_verified_again(journal: Journal) -> None:
    stopped = after(decide(after(decide(budget(), journal.state)), SHORTER, T1))
    plan = decide(stopped, journal.state, T1)
    assert condition(plan)["status"] == "True"
    assert condition(plan, "Ready")["status"] == "True"


def test_a_store_that_is_away_neither_clears_nor_makes_a_finding(journal: Journal) -> None:
    fresh = condition(decide(budget(), AWAY))
    assert (fresh["status"], fresh["reason"]) == ("Unknown", "StoreUnavailable")
    good = after(decide(budget(), journal.state))
    assert condition(decide(good, AWAY, T1)) == condition(decide(budget(), journal.state))
    stopped = decide(good, SHORTER)
    plan = decide(after(stopped), AWAY, T1)
    assert condition(plan) == condition(stopped)
    assert condition(plan, "Ready")["status"] == "False"


def test_a_status_behind_the_journal_is_corrected(journal: Journal) -> None:
    behind = after(decide(budget(), journal.state))
    journal.reserve(subject("other"), task(), HISTOGRAM)
    plan = decide(behind, journal.state)
    assert plan.status == decide(budget(), journal.state).status
    assert plan.status is not None
    assert plan.status["head"]["sequence"] == 2


def test_a_journal_is_opened_once_and_tightened_when_the_limit_falls(journal: Journal) -> None:
    assert decide(budget(), LedgerState()).ledger == (Open(),)
    assert decide(budget(), journal.state).ledger == ()
    assert decide(budget(epsilon="7"), journal.state).ledger == (Open(),)
    assert decide(budget(), SHORTER).ledger == ()


def test_a_limit_below_what_was_given_out_is_refused_and_never_claimed(journal: Journal) -> None:
    for number in range(200):
        journal.reserve(subject(f"n{number}"), task(), HISTOGRAM)
    lower = budget(epsilon="5.5")
    plan = decide(lower, journal.state)
    assert plan.ledger == ()
    stalled = condition(plan, "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "LimitBelowSpent")
    assert stalled["message"].startswith("spec.limit.epsilon: 5.5 is less than was given out")
    assert plan.status is not None
    assert "(epsilon 8, delta 1e-5)" in plan.status["guarantee"]
    assert below_spent(view(lower, journal.state)) == stalled["message"]
    # What was paid for goes on, where the custodian still lets stages in.
    assert usable(view(lower, journal.state)) is None
    withdrawn = replace(view(lower, journal.state), custody=Custody(False, "no label"))
    held = usable(withdrawn)
    assert held is not None
    assert held.reason == "CustodyNotGranted"


def test_a_lower_limit_is_claimed_once_the_journal_has_it(journal: Journal) -> None:
    lower = view(budget(epsilon="7"), journal.state)
    assert "(epsilon 8, " in guarantee(lower)
    journal.open(DATA, LIMIT.model_copy(update={"epsilon": "7"}), ORDER)
    assert "(epsilon 7, " in guarantee(view(budget(epsilon="7"), journal.state))
    assert below_spent(lower) == ""
    before = after(decide(budget(), journal.state))
    assert guarantee(view(before, SHORTER)) == guarantee(view(before, journal.state))


def test_the_latest_charges_are_shown_newest_first(journal: Journal) -> None:
    for number in range(LATEST_CHARGES + 5):
        journal.reserve(subject(f"n{number:02d}"), task(), HISTOGRAM)
    plan = decide(budget(), journal.state)
    assert plan.status is not None
    names = [each["subject"].rpartition("/")[2] for each in plan.status["charges"]]
    assert names == [f"n{number:02d}" for number in reversed(range(5, LATEST_CHARGES + 5))]


def test_an_ended_budget_is_not_charged(journal: Journal) -> None:
    held = usable(view(budget(), journal.tombstone("budget deleted")))
    assert held is not None
    assert (held.state, held.reason) == ("Stalled", "BudgetEnded")


@pytest.mark.parametrize("reason", ["UriInvalid", "UriNested"])
def test_a_uri_that_can_have_no_journal_is_said_to_be_so(reason: str) -> None:
    plan = decide(budget(), LedgerTrouble(reason, "why"))
    assert plan.ledger == ()
    stalled = condition(plan, "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", reason)
    assert condition(plan)["status"] == "Unknown"
