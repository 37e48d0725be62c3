"""What goes wrong around a stage: each cause has its condition, and goes on when it is gone."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from integration.reconcile.harness import World, task_of
from integration.reconcile.kube import pods_in
from palimpsest.api.outcomes import Outcome


def condition(world: World, kind: str, name: str, wanted: str = "Ready") -> dict[str, Any]:
    conditions = world.get(kind, name, world.tenant)["status"]["conditions"]
    return next(item for item in conditions if item["type"] == wanted)


def test_a_quota_is_named_and_the_stage_begins_when_it_is_raised(world: World) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": world.custody},
        "spec": {"hard": {"pods": "0"}},
    }
    world.apply(quota)
    world.apply(world.privacy_budget())
    world.apply(world.private_generator())
    world.until("held", lambda: world.summary("pgen", "questions") == "QuotaExceeded")
    assert "raise the namespace's ResourceQuota" in condition(world, "pgen", "questions")["message"]
    assert world.journal().refresh().reserved > 0
    world.apply({**quota, "spec": {"hard": {"pods": "9"}}})
    world.job(world.custody, "train")
    world.until("begins", lambda: world.summary("pgen", "questions") != "QuotaExceeded")


def test_a_job_that_no_node_takes_gives_way_to_one_that_asks_for_less(world: World) -> None:
    world.apply(world.privacy_budget())
    generator = world.private_generator()
    generator["spec"]["compute"] = {"resources": {"requests": {"memory": "900Gi"}}}
    world.apply(generator)
    first = world.job(world.custody, "train")
    reserved = world.journal().refresh().reserved
    assert reserved > 0
    # No scheduler runs here: this is what it says.
    (pod,) = world.until("a pod", lambda: world.pods(first))
    told = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1"}
    status = f"{pods_in(world.custody, pod['metadata']['name'])}/status"
    world.kube.patch(status, {"status": {"conditions": [told]}})
    world.until("said", lambda: world.summary("pgen", "questions") == "Unschedulable")
    generator["spec"]["compute"] = {"resources": {"requests": {"memory": "1Gi"}}}
    world.apply(generator)

    def smaller() -> bool:
        (uid,) = [job["metadata"]["uid"] for job in world.jobs(world.custody)] or [""]
        return uid not in ("", first["metadata"]["uid"])

    world.until("a smaller Job", smaller)
    state = world.journal().refresh()
    assert (state.reserved, state.committed) == (reserved, 0)


def test_a_refused_job_is_a_condition_and_is_tried_again(world: World) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": world.custody},
        "spec": {"hard": {"count/jobs.batch": "0"}},
    }
    world.apply(quota)
    world.until(
        "the quota counts",
        lambda: world.get("quota", "none", world.custody).get("status", {}).get("hard"),
    )
    world.apply(world.privacy_budget())
    world.apply(world.private_generator())
    world.until("held", lambda: world.summary("pgen", "questions") == "QuotaExceeded")
    said = condition(world, "pgen", "questions")
    assert said["message"].startswith("Job questions-train-")
    assert condition(world, "pgen", "questions", "Reconciling")["status"] == "True"
    world.plane.kubectl("delete", "quota", "none", "-n", world.custody)
    world.job(world.custody, "train")


# A minute of waiting. How long it is the unit tests say; that another attempt follows, test_peers.
@pytest.mark.full
def test_denied_keys_are_tried_again_without_spending_anything(world: World) -> None:
    world.apply(world.privacy_budget())
    world.apply(world.private_generator())
    first = world.job(world.custody, "train")
    world.end_pods(first, Outcome.ACCESS_DENIED)
    world.until("said", lambda: world.summary("pgen", "questions") == "AccessDenied")
    assert "Another attempt follows" in condition(world, "pgen", "questions")["message"]
    reserved = world.journal().refresh().reserved

    def another() -> bool:
        uids = [job["metadata"]["uid"] for job in world.jobs(world.custody)]
        return bool(uids) and first["metadata"]["uid"] not in uids

    world.until("another Job", another, seconds=100)
    state = world.journal().refresh()
    assert (state.reserved, state.committed) == (reserved, 0)


def test_more_memory_is_worth_another_attempt(world: World) -> None:
    world.apply(world.privacy_budget())
    generator = world.private_generator()
    world.apply(generator)
    first = world.job(world.custody, "train")
    world.end_pods(first, Outcome.OUT_OF_RESOURCES)
    world.until("failed", lambda: world.summary("pgen", "questions") == "OutOfResources")
    world.until("given back", lambda: world.journal().refresh().reserved == 0)
    generator["spec"]["compute"] = {"resources": {"limits": {"memory": "8Gi"}}}
    world.apply(generator)

    def larger() -> bool:
        pods = [job["spec"]["template"]["spec"] for job in world.jobs(world.custody)]
        return [pod["containers"][0]["resources"].get("limits") for pod in pods] == [
            {"memory": "8Gi"}
        ]

    world.until("a larger Job", larger)
    assert world.journal().refresh().reserved > 0


def test_a_placement_beyond_the_custodians_lists_never_has_a_pod(world: World) -> None:
    # Admission is away in this world: the control loop holds the terms alone.
    world.apply(world.privacy_budget())
    generator = world.private_generator()
    generator["spec"]["compute"] = {"nodeSelector": {"zone": "anywhere"}}
    world.apply(generator)
    world.until("refused", lambda: world.summary("pgen", "questions") == "PlacementNotAllowed")
    assert condition(world, "pgen", "questions", "Stalled")["status"] == "True"
    assert world.jobs(world.custody) == []
    assert not world.journal().refresh().charges

    budget = world.privacy_budget()
    budget["spec"]["custodian"]["compute"] = {
        "nodeLabels": [{"key": "zone", "values": ["anywhere"]}]
    }
    world.apply(budget)
    # At once: its next look of itself would be half a minute away.
    world.until("let in", lambda: world.jobs(world.custody), seconds=15)
    job = world.job(world.custody, "train")
    assert job["spec"]["template"]["spec"]["nodeSelector"] == {"zone": "anywhere"}


def test_a_namespace_is_let_in_by_its_labels(world: World) -> None:
    budget = world.privacy_budget()
    budget["spec"]["allowedNamespaces"] = {"selector": {"matchLabels": {"team": world.mark}}}
    world.apply(budget)
    world.apply(world.private_generator())
    world.until("refused", lambda: world.summary("pgen", "questions") == "NamespaceNotAllowed")
    world.plane.kubectl("label", "ns", world.tenant, f"team={world.mark}")
    generator = world.private_generator()
    generator["spec"]["suspend"] = False
    generator["metadata"]["annotations"] = {"poke": "1"}
    world.apply(generator)
    world.job(world.custody, "train")


def test_a_stage_that_never_begins_gives_its_reservation_back(world: World) -> None:
    budget = world.privacy_budget()
    budget["spec"]["reservationTimeout"] = "3s"
    world.apply(budget)
    generator = world.private_generator()
    world.apply(generator)
    world.until("over", lambda: world.summary("pgen", "questions") == "ReservationTimedOut")
    world.until("given back", lambda: world.journal().refresh().reserved == 0)
    world.until("no Job", lambda: not world.jobs(world.custody))
    time.sleep(3)
    assert world.journal().refresh().reserved == 0, "it must not queue again by itself"
    assert world.summary("pgen", "questions") == "ReservationTimedOut"

    for suspend in (True, False):
        generator["spec"]["suspend"] = suspend
        world.apply(generator)
        time.sleep(1)
    world.job(world.custody, "train")


def test_a_training_that_begins_again_tells_where_it_is_now(world: World) -> None:
    world.apply(world.privacy_budget())
    generator = world.private_generator()
    generator["spec"]["training"] |= {"restarts": 4}
    world.apply(generator)
    job = world.job(world.custody, "train")
    world.run_pods(job)
    world.spend(job, 1, 3)

    def told() -> str:
        stages = world.get("pgen", "questions", world.tenant)["status"]["stages"]
        return str(stages[0].get("progress", ""))

    steps, block = (task_of(job).parameters.model_dump()[key] for key in ("steps", "block_steps"))
    world.until("all of it", lambda: told() == f"{3 * block}/{steps} steps")
    world.plane.kubectl("delete", "job", job["metadata"]["name"], "-n", world.custody)
    again = world.job(world.custody, "train", 2)
    world.run_pods(again)
    world.spend(again, 2, 1)
    # Paid for anew, it is no more than the first block.
    world.until("the first again", lambda: told() == f"{block}/{steps} steps")


def test_a_limit_below_what_was_given_out_stops_new_charges_and_is_never_claimed(
    world: World,
) -> None:
    # Admission is away in this world: it would have refused the lower limit.
    world.apply(world.privacy_budget())
    world.apply(world.private_generator())
    world.job(world.custody, "train")
    world.apply(world.privacy_budget("2.9"))
    world.until("said", lambda: world.summary("pb", world.budget) == "LimitBelowSpent")
    assert "(epsilon 3.4, " in world.get("pb", world.budget)["status"]["guarantee"]
    world.apply(world.private_generator("later", "0.5"))
    world.until("held", lambda: world.summary("pgen", "later") == "LimitBelowSpent")
    assert len(world.journal().refresh().charges) == 1

    world.succeed("train", {"adapter_model.safetensors": b"adapter"}, 3)
    world.until("what was paid for goes on", lambda: world.summary("pgen", "questions") == "Ready")
    assert len(world.journal().refresh().charges) == 1


def test_centroids_that_are_not_the_manifest_s_are_not_carried_and_that_is_said(
    world: World,
) -> None:
    for manifest in (world.privacy_budget(), world.private_generator(), world.synthetic_dataset()):
        world.apply(manifest)
    world.succeed("train", {"adapter_model.safetensors": b"adapter"}, 3)
    world.succeed("sample", {"instructions.jsonl": b"{}"})
    job = world.job(world.tenant, "cluster")
    world.publish(job, {"centroids.safetensors": b"centroids", "assignments.jsonl": b"{}"})
    path = f"{task_of(job).output.uri}attempts/1-test/centroids.safetensors"
    world.store("tenant").put(path, b"others")
    world.end_pods(job, Outcome.COMPLETED)
    world.until("said", lambda: world.summary("synds", "questions") == "ManifestInvalid")
    told = world.get("synds", "questions", world.tenant)["status"]["conditions"]
    ready = next(each for each in told if each["type"] == "Ready")
    assert ready["message"].startswith(f"{path} is not what its manifest says")
    world.store("tenant").put(path, b"centroids")
    world.job(world.custody, "histogram")


def test_a_queue_starts_the_job_and_we_do_not_fight_it(world: World) -> None:
    budget = world.privacy_budget()
    budget["spec"]["custodian"]["compute"] = {"queueName": "gpus"}
    world.apply(budget)
    world.apply(world.private_generator())
    world.until("queued", lambda: world.summary("pgen", "questions") == "Queued")
    (job,) = world.jobs(world.custody)
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert job["spec"]["suspend"] is True
    assert world.pods(job) == []

    # What Kueue does: place it, start it, and take it back when something better comes.
    affinity = {"spec": {"template": {"spec": {"nodeSelector": {"pool": "a"}}}, "suspend": False}}
    name = job["metadata"]["name"]
    patch = ("patch", "job", name, "-n", world.custody, "--type=merge", "-p")
    world.plane.kubectl(*patch, json.dumps(affinity))
    world.job(world.custody, "train")
    world.until("begins", lambda: world.summary("pgen", "questions") == "Pending")
    world.plane.kubectl(*patch, json.dumps({"spec": {"suspend": True}}))
    world.until("queued again", lambda: world.summary("pgen", "questions") == "Queued")
    (again,) = world.jobs(world.custody)
    assert again["metadata"]["uid"] == job["metadata"]["uid"]
    assert again["spec"]["template"]["spec"]["nodeSelector"] == {"pool": "a"}


def test_jobs_go_after_their_time_and_the_resource_stays_ready(world: World) -> None:
    world.apply(world.privacy_budget())
    generator = world.private_generator()
    generator["spec"]["ttlSecondsAfterFinished"] = 1
    world.apply(generator)
    world.succeed("train", {"adapter_model.safetensors": b"adapter"}, 3)
    world.until("Ready", lambda: world.summary("pgen", "questions") == "Ready")
    world.until("no Job", lambda: not world.jobs(world.custody))
    time.sleep(2)
    status = world.get("pgen", "questions", world.tenant)["status"]
    assert status["summary"] == "Ready"
    assert status["stages"][0]["job"].startswith("questions-train-")
    assert status["stages"][0]["completionTime"]


def test_a_resource_whose_store_is_gone_for_good_is_let_go_and_nothing_is_given_back(
    world: World,
) -> None:
    world.apply(world.privacy_budget())
    world.apply(world.private_generator())
    job = world.job(world.custody, "train")
    world.spend(job, 1, 1)
    reserved = world.journal().refresh().reserved
    # The operator's keys are taken from it: to the operator the store is gone.
    world.kill()
    (world.folder / "store" / "AWS_SECRET_ACCESS_KEY").write_text("wrong")
    world.start()
    world.until("away", lambda: world.summary("pb", world.budget) == "StoreAccessDenied")
    world.plane.kubectl("delete", "pgen", "questions", "-n", world.tenant, "--wait=false")
    world.until("its Jobs end", lambda: not world.jobs(world.custody))
    time.sleep(2)
    assert world.get("pgen", "questions", world.tenant), "it must wait for its journal"
    world.plane.kubectl(
        *("annotate", "pgen", "questions", "-n", world.tenant),
        "palimpsest.dev/abandon-release=true",
    )
    world.until("gone", lambda: not world.get("pgen", "questions", world.tenant))
    assert world.journal().refresh().reserved == reserved


def test_a_generator_outlives_neither_its_budget_nor_its_pods(world: World) -> None:
    world.apply(world.privacy_budget())
    world.apply(world.private_generator())
    world.job(world.custody, "train")
    world.plane.kubectl("delete", "privacybudget", world.budget)
    world.plane.kubectl("delete", "pgen", "questions", "-n", world.tenant, "--timeout=40s")
    assert world.jobs(world.custody) == []


def test_what_was_never_charged_goes_at_once_even_if_its_budget_names_no_store(
    world: World,
) -> None:
    budget = world.privacy_budget()
    budget["spec"]["dataset"]["storage"]["endpoint"] = "http://mistyped.example"
    world.apply(budget)
    world.apply(world.private_generator())
    world.until("said", lambda: world.summary("pgen", "questions") == "StoreUnknown")
    assert "finalizers" not in world.get("pgen", "questions", world.tenant)["metadata"]
    world.plane.kubectl("delete", "pgen", "questions", "-n", world.tenant, "--timeout=10s")


def test_a_manifest_that_is_none_is_named(world: World) -> None:
    world.apply(world.privacy_budget())
    world.apply(world.private_generator())
    world.apply(world.synthetic_dataset())
    world.succeed("train", {"adapter_model.safetensors": b"adapter"}, 3)
    world.succeed("sample", {"instructions.jsonl": b"{}"}, 0)
    job = world.job(world.tenant, "cluster")
    forged = task_of(job).output.uri + "manifest.json"
    world.store("tenant").put(forged, b'{"files": "many"}')
    world.end_pods(job, Outcome.COMPLETED)
    world.until("said", lambda: world.summary("synds", "questions") == "ManifestInvalid")
    assert forged in condition(world, "synds", "questions")["message"]
    assert len(world.journal().refresh().charges) == 1
