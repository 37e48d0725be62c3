"""A private stage's attempts: what another begins after, and what it costs if none does."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from palimpsest.ledger import Journal
from palimpsest.reconcile import jobs
from palimpsest.reconcile.adapter.ledgers import opening
from palimpsest.reconcile.observed import Job
from palimpsest.reconcile.plan import Commit, CreateJob
from unit.ledger.folder_store import FolderStore
from unit.reconcile.budgets import URI
from unit.reconcile.failed import failed
from unit.reconcile.generators import NOW, World, generator, paying


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A generator with one restart whose only attempt so far stands in the journal."""
    journal = Journal(FolderStore(tmp_path), URI)
    journal.open(*opening(paying().spec))
    known = generator()
    training = known.spec.training.model_copy(update={"restarts": 1})
    spec = known.spec.model_copy(update={"training": training, "audit": None})
    return World(journal, known.model_copy(update={"spec": spec}))


def after(world: World, terminated: dict[str, Any]) -> Job:
    """The first attempt's Job, its container ended like that."""
    state = {"terminated": terminated}
    pod = {
        "metadata": {"name": "p"},
        "status": {"phase": "Failed", "containerStatuses": [{"state": state}]},
    }
    return failed(
        namespace="custody",
        name=world.stage.create(1).manifest["metadata"]["name"],
        ended_at=NOW - timedelta(minutes=1),
        pods=(jobs.observe_pod(pod),),
    )


def test_a_node_that_rebooted_costs_a_restart_and_not_the_charge(world: World) -> None:
    job = after(world.begun(), {"exitCode": 255, "reason": "Unknown"})
    plan = world.reconciled(jobs=(job,))
    assert plan.ledger == ()
    (child,) = plan.children
    assert isinstance(child, CreateJob)
    assert child.manifest["metadata"]["labels"][jobs.LABEL_ATTEMPT] == "2"
    # It is not attested from outside: without another restart it costs all.
    world.journal.start(world.stage.charge.id, 2)
    again = replace(job, name=child.manifest["metadata"]["name"], attempt=2)
    assert world.reconciled(jobs=(job, again)).ledger == (Commit(world.stage.charge.id, "full"),)


def test_a_program_that_ends_itself_like_that_is_charged(world: World) -> None:
    job = after(world.begun(), {"exitCode": 255, "reason": "Error"})
    assert world.reconciled(jobs=(job,)).ledger == (Commit(world.stage.charge.id, "full"),)
