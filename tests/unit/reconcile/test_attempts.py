"""A private stage's attempts: what another begins after, and what it costs if none does."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import samples
from palimpsest.api.alignment import AlignmentRunSpec
from palimpsest.api.common import ArtifactRef, Location, TrainingCompute
from palimpsest.ledger import Journal
from palimpsest.reconcile import jobs, stages, tasks
from palimpsest.reconcile.adapter.ledgers import opening
from palimpsest.reconcile.observed import Job, Look, Meta, Objects, Pod, Settings
from palimpsest.reconcile.plan import Commit, CreateJob, DeleteJob
from palimpsest.reconcile.policies import blockage, replacement
from palimpsest.reconcile.stages import Step
from unit.ledger.folder_store import FolderStore
from unit.reconcile.budgets import URI
from unit.reconcile.failed import failed
from unit.reconcile.generators import NOW, World, generator, paying

SMALL = {"resources": {"requests": {"memory": "1Gi"}}}
PENDING = Pod("p", "Pending", None, blockage.unschedulable("0/1 nodes are available"))


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


def waiting(world: World, attempt: int = 1, **changes: Any) -> Job:
    """The attempt's Job as it stands before any pod of it began."""
    made = world.stage.create(attempt).manifest
    return replace(jobs.observe_job(made, (PENDING,)), **changes)


def smaller(world: World) -> World:
    """The same generator, with less memory asked for."""
    spec = world.known.spec.model_copy(update={"compute": TrainingCompute.model_validate(SMALL)})
    return World(world.journal, world.known.model_copy(update={"spec": spec}))


def suspended(world: World) -> World:
    spec = world.known.spec.model_copy(update={"suspend": True})
    return World(world.journal, world.known.model_copy(update={"spec": spec}))


def test_a_job_that_no_node_takes_is_made_anew_when_less_is_asked_for(world: World) -> None:
    job = waiting(world.reserved())
    assert world.reconciled(jobs=(job,)).children == ()
    changed = smaller(world)
    plan = changed.reconciled(jobs=(job,))
    assert (plan.children, plan.ledger) == ((DeleteJob("custody", job.name),), ())
    # Once, and only when it is gone.
    assert changed.reconciled(jobs=(replace(job, deleting=True),)).children == ()
    (child,) = changed.reconciled().children
    assert isinstance(child, CreateJob)
    again = jobs.observe_job(child.manifest, (PENDING,))
    assert again.name == job.name
    assert changed.reconciled(jobs=(again,)).children == ()


def test_a_job_whose_attempt_stands_in_the_journal_is_left_alone(world: World) -> None:
    job = waiting(world.begun())
    for changed in (smaller(world), suspended(world)):
        assert changed.reconciled(jobs=(job,)).children == ()


def test_suspending_ends_a_job_that_cannot_start_and_keeps_the_reservation(world: World) -> None:
    job = waiting(world.reserved())
    held = suspended(world)
    plan = held.reconciled(jobs=(job,))
    assert (plan.children, plan.ledger) == ((DeleteJob("custody", job.name),), ())
    then = held.reconciled()
    assert (then.children, then.ledger) == ((), ())
    assert then.status is not None
    assert then.status["summary"] == "Suspended"


@pytest.mark.parametrize(
    ("changes", "due"),
    [
        ({}, True),
        ({"pods": ()}, True),
        # Kueue's, or one whose pod is refused.
        ({"pods": (), "suspended": True}, True),
        ({"ran": True}, False),
        ({"pods": (Pod("p", "Pending", None, None),)}, False),
        ({"deleting": True}, False),
        ({"state": "Failed"}, False),
    ],
)
def test_what_did_not_begin_and_cannot_is_replaced(
    changes: dict[str, Any], due: bool, world: World
) -> None:
    job = waiting(world, **changes)
    assert replacement.due(job, "another", suspend=False) == due
    assert replacement.due(job, job.asked, suspend=True) == due
    assert not replacement.due(job, job.asked, suspend=False)
    assert not replacement.due(replace(job, asked=""), "another", suspend=False)


@pytest.mark.parametrize("phase", ["Running", "Succeeded", "Failed", "Unknown"])
def test_a_job_of_which_a_pod_began_is_known(phase: str, world: World) -> None:
    made = world.stage.create(1).manifest
    assert jobs.observe_job(made, (PENDING, Pod("q", phase, None, None))).ran
    assert jobs.observe_job({**made, "status": {"failed": 1}}, ()).ran
    assert not jobs.observe_job({**made, "status": {"active": 1, "ready": 0}}, (PENDING,)).ran


def test_what_a_pod_is_given_is_part_of_what_is_asked(world: World) -> None:
    stage = world.reserved().stage
    job = waiting(world)
    custodian = stage.budget.custodian
    named = custodian.model_copy(update={"service_account_name": "corrected"})
    for other in (
        replace(stage, settings=replace(stage.settings, stage_image="newer")),
        replace(stage, budget=stage.budget.model_copy(update={"custodian": named})),
    ):
        assert jobs.asked(other.create(1).manifest) != job.asked
    assert jobs.asked(stage.create(1).manifest) == job.asked


def test_outside_custody_a_job_that_cannot_start_is_made_anew_too() -> None:
    spec = AlignmentRunSpec.model_validate(samples.alignment()["spec"])
    meta = Meta("AlignmentRun", "research", "one", "uid-1", 1, deleting=False)
    origin = Location.model_validate({"uri": "s3://outputs/one/", "storage": samples.STORAGE})
    artifact = ArtifactRef(uri="s3://outputs/one/card/manifest.json", digest=samples.DIGEST)
    plan = tasks.align(meta, spec, artifact, origin, "(3, 1e-5)-DP")
    uris = [*plan.manifests, *(f"{prefix}progress.json" for prefix in plan.prefixes)]
    nothing = Objects({Look(plan.storage.endpoint, uri): None for uri in uris})

    def step(image: str, known: tuple[Job, ...], suspend: bool = False) -> Step:
        settings = Settings(stage_image=image, cluster="c1")
        return stages.public_stage(meta, plan, spec.compute, known, nothing, settings, suspend, NOW)

    (made,) = step("old", ()).children
    assert isinstance(made, CreateJob)
    blocked = jobs.observe_job(made.manifest, (PENDING,))
    assert step("old", (blocked,)).children == ()
    gone = (DeleteJob("research", blocked.name),)
    assert step("new", (blocked,)).children == gone
    assert step("old", (blocked,), suspend=True).children == gone
    runs = jobs.observe_job(made.manifest, (PENDING, Pod("q", "Running", None, None)))
    assert step("new", (runs,), suspend=True).children == ()
