"""An audited generator against the real API server, store and operator: released, or withheld."""

from __future__ import annotations

from integration.reconcile.harness import Json, World, task_of
from palimpsest.api.outcomes import Outcome
from palimpsest.api.task import TrainParameters, canonical_json
from palimpsest.privacy.audits import judge


def audited(world: World) -> Json:
    made = world.private_generator()
    made["spec"]["audit"] = {"canaries": 600}
    return made


def condition(world: World) -> tuple[str, str]:
    """(status, reason) of AuditPassed."""
    told = world.get("pgen", "questions", world.tenant)["status"]["conditions"]
    (found,) = [each for each in told if each["type"] == "AuditPassed"]
    return found["status"], found["reason"]


def test_an_audited_release_shows_its_bound(world: World) -> None:
    world.apply(world.privacy_budget())
    world.apply(audited(world))
    job = world.job(world.custody, "train")
    assert condition(world) == ("Unknown", "AuditPending")
    parameters = task_of(job).parameters
    assert isinstance(parameters, TrainParameters)
    assert parameters.audit is not None
    result = canonical_json(judge(parameters.audit, 50).model_dump(by_alias=True))
    files = {"adapter_model.safetensors": b"adapter", "audit.json": result}
    world.succeed("train", files, 3)
    world.until("Ready", lambda: world.summary("pgen", "questions") == "Ready")
    assert condition(world) == ("True", "BoundBelowClaim")
    audit = world.get("pgen", "questions", world.tenant)["status"]["audit"]
    assert (audit["claim"], audit["verdict"]) == ("3", "Passed")
    assert 0 < float(audit["bound"]) < 3 < float(audit["largestProvable"])


def test_a_failed_audit_releases_nothing_and_commits_in_full(world: World) -> None:
    world.apply(world.privacy_budget())
    world.apply(audited(world))
    job = world.job(world.custody, "train")
    reserved = world.journal().refresh().reserved
    world.spend(job, 1, 3)
    world.end_pods(job, Outcome.AUDIT_FAILED)
    world.until("failed", lambda: world.summary("pgen", "questions") == "AuditFailed")
    world.until("committed", lambda: world.journal().refresh().committed == reserved)
    assert condition(world) == ("False", "AuditFailed")
    assert len(world.jobs(world.custody)) == 1

    # Nor is it forgotten when the Job is gone and the operator starts anew.
    world.kill()
    name = job["metadata"]["name"]
    world.plane.kubectl("delete", "job", name, "-n", world.custody, "--wait=false")
    world.start()
    world.until("the Job is gone", lambda: world.jobs(world.custody) == [])
    spec = world.get("pgen", "questions", world.tenant)
    spec["spec"]["suspend"] = True
    world.apply(
        {key: spec[key] for key in ("apiVersion", "kind", "spec")}
        | {"metadata": {"name": "questions", "namespace": world.tenant}}
    )
    world.until(
        "seen again",
        lambda: world.get("pgen", "questions", world.tenant)["status"]["observedGeneration"] == 2,
    )
    assert world.summary("pgen", "questions") == "AuditFailed"
    assert condition(world) == ("False", "AuditFailed")
