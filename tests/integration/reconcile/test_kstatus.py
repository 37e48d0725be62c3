"""kstatus, Argo CD and kubectl wait say what is true of a resource, in every state of it."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from argocd.judge import ArgoCD
from cluster import toolchain
from integration.reconcile.harness import World
from integration.reconcile.test_pipeline import PIPELINE
from palimpsest.api.outcomes import Outcome

KINDS = ("privacybudget", "pgen", "synds", "align")
NAMES = {"pgen": "questions", "synds": "questions", "align": "assistant"}
HEALTH = {"Current": "Healthy", "InProgress": "Progressing", "Failed": "Degraded"}

pytestmark = pytest.mark.usefixtures("argocd")


def judged(world: World, kind: str, name: str) -> str:
    """kstatus' word; kubectl wait must agree that it is Ready, or that it is not."""
    namespace = "" if kind == "privacybudget" else world.tenant
    where = ["-n", namespace] if namespace else []
    while True:
        found = world.get(kind, name, namespace)
        assert found, f"{kind}/{name}"
        status = kstatus(found)
        said = world.plane.kubectl(
            *("wait", "--for=condition=Ready", f"{kind}/{name}", "--timeout=0", *where), check=False
        )
        # They must have spoken of one and the same state.
        after = world.get(kind, name, namespace)
        if after and after["metadata"]["resourceVersion"] == found["metadata"]["resourceVersion"]:
            break
    assert ("condition met" in said) == (status == "Current"), f"{kind}/{name} {status}: {said}"
    return status


def kstatus(resource: dict[str, Any]) -> str:
    """What cli-utils' library makes of it."""
    done = subprocess.run(
        [str(toolchain.checks() / "kstatus")],
        input=json.dumps(resource),
        capture_output=True,
        text=True,
        check=True,
    )
    return str(json.loads(done.stdout)["status"])


def expect(world: World, kind: str, reason: str, status: str, name: str = "") -> None:
    """Wait until the resource says `reason`; then `status` must be what others make of it."""
    name = name or NAMES.get(kind, world.budget)
    world.until(f"{kind}/{name}: {reason}", lambda: world.summary(kind, name) == reason)
    assert judged(world, kind, name) == status
    found = world.get(kind, name, "" if kind == "privacybudget" else world.tenant)
    if found["status"]["summary"] == reason:  # and not on its way to the next
        (opinion,) = ArgoCD(world.plane).judge(found)
        health = "Suspended" if reason == "Suspended" else HEALTH[status]
        assert opinion["health"]["status"] == health, opinion


def all_of(world: World) -> dict[str, str]:
    return {kind: judged(world, kind, NAMES.get(kind, world.budget)) for kind in KINDS}


def set_spec(world: World, kind: str, name: str, **fields: Any) -> None:
    where = [] if kind == "privacybudget" else ["-n", world.tenant]
    patch = json.dumps({"spec": fields})
    world.plane.kubectl("patch", kind, name, *where, "--type=merge", "-p", patch)


def test_from_unseen_to_ready_and_away(world: World) -> None:
    world.kill()
    for manifest in world.manifests():
        world.apply(manifest)
    assert set(all_of(world).values()) == {"InProgress"}  # nobody has seen them

    world.start()
    expect(world, "privacybudget", "Ready", "Current")
    expect(world, "pgen", "Pending", "InProgress")
    expect(world, "synds", "GeneratorNotReady", "InProgress")
    expect(world, "align", "DatasetNotReady", "InProgress")
    for stage, files, blocks in PIPELINE:
        kind = {"train": "pgen", "sft": "align"}.get(stage, "synds")
        if stage in ("train", "sample", "sft"):
            world.run_pods(world.job(world.custody if blocks else world.tenant, stage))
            expect(world, kind, "Running", "InProgress")
        world.succeed(stage, files, blocks)
    for kind in reversed(KINDS):
        expect(world, kind, "Ready", "Current")

    # A changed spec is not Ready until it was seen.
    world.kill()
    for kind, name in NAMES.items():
        set_spec(world, kind, name, suspend=True)
    set_spec(world, "privacybudget", world.budget, reservationTimeout="2h")
    assert set(all_of(world).values()) == {"InProgress"}
    world.start()

    def seen() -> bool:
        return set(all_of(world).values()) == {"Current"}

    world.until("all are Ready as changed", seen)

    # Degraded by what is around it, and recovered.
    label = ("label", "namespace", world.custody, "--overwrite")
    world.plane.kubectl(*label, "palimpsest.dev/custody=no")
    set_spec(world, "privacybudget", world.budget, reservationTimeout="3h")
    expect(world, "privacybudget", "CustodyNotGranted", "InProgress")
    world.plane.kubectl(*label, "palimpsest.dev/custody=granted")
    set_spec(world, "privacybudget", world.budget, reservationTimeout="4h")
    expect(world, "privacybudget", "Ready", "Current")

    # With nobody to take the finalizers away.
    world.kill()
    for kind in ("pgen", "synds"):
        world.plane.kubectl("delete", kind, NAMES[kind], "-n", world.tenant, "--wait=false")
        assert judged(world, kind, NAMES[kind]) == "Terminating"


def test_held_back_and_queued(world: World) -> None:
    budget = world.privacy_budget()
    budget["spec"]["custodian"]["compute"] = {"queueName": "gpus"}
    world.apply(world.private_generator())
    expect(world, "pgen", "BudgetNotFound", "InProgress")
    set_spec(world, "pgen", "questions", suspend=True)
    world.apply(budget)
    expect(world, "pgen", "Suspended", "InProgress")
    set_spec(world, "pgen", "questions", suspend=False)
    expect(world, "pgen", "Queued", "InProgress")


def test_failed_and_recovering(world: World) -> None:
    budget = world.privacy_budget()
    world.apply(budget)
    expect(world, "privacybudget", "Ready", "Current")
    other = {**budget, "metadata": {"name": f"other-{world.mark}"}}
    other["spec"] = {**budget["spec"], "dataset": {**budget["spec"]["dataset"], "records": 15001}}
    world.apply(other)
    expect(world, "privacybudget", "JournalMismatch", "Failed", f"other-{world.mark}")

    world.apply(world.private_generator())
    world.end_pods(world.job(world.custody, "train"), Outcome.OUT_OF_RESOURCES)
    expect(world, "pgen", "OutOfResources", "Failed")
    more = {"resources": {"limits": {"memory": "8Gi"}}}
    set_spec(world, "pgen", "questions", compute=more)
    expect(world, "pgen", "Pending", "InProgress")
    world.succeed("train", {"adapter_model.safetensors": b"adapter"}, 3)
    expect(world, "pgen", "Ready", "Current")
    world.apply(world.private_generator("second"))
    expect(world, "pgen", "BudgetExceeded", "Failed", "second")

    world.apply(world.synthetic_dataset())
    world.end_pods(world.job(world.tenant, "sample"), Outcome.INTERNAL_ERROR)
    expect(world, "synds", "InternalError", "Failed")
    set_spec(world, "synds", "questions", compute={"default": more})
    world.job(world.tenant, "sample")
    expect(world, "synds", "Pending", "InProgress")
    for stage, files, blocks in PIPELINE[1:-1]:
        world.succeed(stage, files, blocks)
    expect(world, "synds", "Ready", "Current")

    world.apply(world.alignment_run())
    world.end_pods(world.job(world.tenant, "sft"), Outcome.MODEL_UNSUITABLE)
    expect(world, "align", "ModelUnsuitable", "Failed")
