"""What a pass tells the metrics: each attempt's end once, what runs, a budget's figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from palimpsest.api.outcomes import Outcome
from palimpsest.ledger.journal import Journal
from palimpsest.reconcile import measures
from palimpsest.reconcile.adapter.counting import AttemptCounter, ChargeCounter
from palimpsest.reconcile.measures import Ended
from palimpsest.reconcile.observed import Job, Pod
from palimpsest.telemetry.resources import Object
from palimpsest.telemetry.stages import REASONS
from prometheus_client import REGISTRY
from unit.ledger.folder_store import (
    DATA,
    HISTOGRAM,
    LIMIT,
    ORDER,
    URI,
    FolderStore,
    subject,
    task,
    training,
)
from unit.reconcile.budgets import budget, reader
from unit.reconcile.failed import failed

BEGUN, OVER = "2026-01-01T12:00:00Z", "2026-01-01T12:01:30Z"
Json = dict[str, Any]


def status(state: str, job: str = "", **more: Any) -> Json:
    return {"stages": [{"name": "train", "state": state, "job": job, **more}]}


def broken(outcome: Outcome | None = Outcome.INTERNAL_ERROR) -> Job:
    pods = (Pod("p", "Failed", outcome, None),)
    return replace(failed(), pods=pods, started=BEGUN, ended=OVER)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (status("Running", "j"), status("Failed", "j")),
        (status("Running", "j"), status("Waiting", "j")),
        # A private stage that restarts names no Job while it waits.
        (status("Running", "j"), status("Waiting")),
        (status("Pending"), status("Failed", "j")),
        ({}, status("Failed", "j")),
    ],
)
def test_a_failed_attempt_is_told_when_the_status_first_tells_of_it(
    before: Json, after: Json
) -> None:
    told = list(measures.ended(before, after, (broken(),)))
    shown = after["stages"][0]["state"] == "Failed"
    assert told == [Ended("train", "InternalError", 90, OVER, BEGUN, "j", shown=shown)]
    assert list(measures.ended(after, after, (broken(),))) == []
    assert [each.reason for each in measures.ended(before, after, (broken(None),))] == [
        "StageFailed"
    ]


@pytest.mark.parametrize("outcome", [*Outcome, None])
@pytest.mark.parametrize("failure", ["Disrupted", "Retryable", "Program"])
def test_a_reason_is_one_of_those_that_the_metric_knows(
    outcome: Outcome | None, failure: Literal["Disrupted", "Retryable", "Program"]
) -> None:
    job = replace(broken(outcome), failure=failure)
    (told,) = measures.ended(status("Running", "j"), status("Failed", "j"), (job,))
    assert told.reason in REASONS


def test_what_runs_or_waits_for_another_reason_has_not_failed() -> None:
    active = replace(broken(), state="Active")
    for after in (status("Running", "j"), status("Waiting")):
        assert list(measures.ended(status("Running", "j"), after, (active,))) == []
    # The next attempt runs beside the failed one's Job.
    running = status("Running", "j-2")
    assert list(measures.ended(status("Waiting"), running, (broken(),))) == []


def test_a_success_is_told_once_its_end_is_known() -> None:
    before, early = status("Running", "j"), status("Succeeded", "j", startTime=BEGUN)
    over = status("Succeeded", "j", startTime=BEGUN, completionTime=OVER)
    assert list(measures.ended(before, early, ())) == []
    assert list(measures.ended(early, over, ())) == [Ended("train", "", 90, OVER, BEGUN, "j")]
    charged = status("Succeeded", "j", startTime=BEGUN, completionTime=OVER, charge={"id": "c"})
    (told,) = measures.ended(early, charged, ())
    assert told.charge == "c"
    assert list(measures.ended(over, over, ())) == []


def test_an_end_is_counted_once_however_often_a_status_tells_of_it() -> None:
    def failures() -> float:
        labels = {"stage": "train", "reason": "Disrupted"}
        return REGISTRY.get_sample_value("palimpsest_stage_failures_total", labels) or 0

    counter, before = AttemptCounter(), failures()
    thing, attempt = Object("PrivateGenerator", "n", "g"), Ended("train", "Disrupted", 90, OVER)
    assert [counter.count(thing, attempt) for _ in range(2)] == [True, False]
    counter.count(Object("PrivateGenerator", "n", "other"), attempt)
    assert failures() == before + 2
    counter.count(thing, replace(attempt, at="2026-01-01T13:00:00Z"))
    counter.forget(thing)
    counter.count(thing, attempt)
    assert failures() == before + 4


@pytest.mark.parametrize(
    ("text", "ratio"),
    [
        ("", 0),
        ("16/32 steps", 0.5),
        ("3/4 rows, 9 tokens", 0.75),
        ("9/8 x", 1),
        ("a/b", 0),
        ("1/0", 0),
    ],
)
def test_progress_is_of_the_stages_that_run(text: str, ratio: float) -> None:
    assert measures.progress(status("Running", progress=text)) == {"train": ratio}
    assert measures.progress(status("Succeeded", progress=text)) == {}


def test_figures_are_of_the_stages_that_run() -> None:
    told = {"loss": "0.5", "kl": "1e-05"}
    assert measures.figures(status("Running", figures=told)) == {
        ("train", "loss"): 0.5,
        ("train", "kl"): 1e-5,
    }
    assert measures.figures(status("Succeeded", figures=told)) == {}


def test_a_resource_stands_where_its_conditions_say() -> None:
    def told(ready: str, stalled: str) -> str:
        types = {"Ready": ready, "Reconciling": "False", "Stalled": stalled}
        return measures.standing(
            {"conditions": [{"type": name, "status": word} for name, word in types.items()]}
        )

    assert told("True", "False") == "Ready"
    assert told("False", "True") == "Stalled"
    assert told("False", "False") == "Reconciling"


def test_a_budgets_epsilons_grow_with_its_shares_up_to_the_limit(tmp_path: Path) -> None:
    journal = Journal(FolderStore(tmp_path), URI)
    journal.open(DATA, LIMIT, ORDER)
    empty = measures.spending(journal.state)
    assert (empty.committed, empty.epsilon_promised, empty.oldest) == (0, 0, None)
    first = journal.reserve(subject(), task(), training())
    held = measures.spending(journal.state)
    assert held.charges == {"reserved": 1}
    assert held.oldest is not None
    assert (held.epsilon_committed, held.reserved > 0) == (0, True)
    journal.start(first.id, 1)
    journal.commit(first.id, "full")
    spent = measures.spending(journal.state)
    assert spent.committed == held.reserved
    assert 0 < spent.epsilon_committed == held.epsilon_promised < float(LIMIT.epsilon)
    assert spent.oldest is None
    full = replace(journal.state, committed=journal.state.limit_units)
    assert measures.spending(full).epsilon_committed == pytest.approx(float(LIMIT.epsilon))


def counted(outcome: str) -> float:
    labels = {"mechanism": "discrete-gaussian", "outcome": outcome}
    return REGISTRY.get_sample_value("palimpsest_charges_total", labels) or 0


def test_charges_are_counted_whoever_writes_them_but_not_what_stood_there(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    journal = Journal(store, URI)
    journal.open(DATA, LIMIT, ORDER)
    history = journal.reserve(subject("old"), task(1), HISTOGRAM)
    journal.release(history.id, "never-started")
    operator = reader(store)
    words = ("reserved", "started", "committed", "released")
    before = {word: counted(word) for word in words}
    operator.state(budget())
    assert {word: counted(word) for word in words} == before
    charge = journal.reserve(subject("new"), task(2), HISTOGRAM, restarts=1)
    journal.start(charge.id, 1)
    journal.start(charge.id, 2)
    journal.commit(charge.id, "full")
    for _ in range(2):
        operator.state(budget())
    more = {word: counted(word) - before[word] for word in words}
    assert more == {"reserved": 1, "started": 1, "committed": 1, "released": 0}


def test_a_lost_race_is_counted(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    journal = Journal(store, URI)
    journal.open(DATA, LIMIT, ORDER)
    before = REGISTRY.get_sample_value("palimpsest_ledger_conflicts_total") or 0

    class Slow(FolderStore):
        """Another writer is faster, once."""

        raced = False

        def put_if_absent(self, uri: str, data: bytes) -> bool:
            if not self.raced and "ledger/" in uri:
                self.raced = True
                journal.reserve(subject("other"), task(1), HISTOGRAM)
            return super().put_if_absent(uri, data)

    slow = Journal(Slow(tmp_path), URI, watcher=ChargeCounter())
    slow.reserve(subject("slow"), task(2), HISTOGRAM)
    assert REGISTRY.get_sample_value("palimpsest_ledger_conflicts_total") == before + 1
