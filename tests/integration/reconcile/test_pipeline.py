"""From apply to Ready, and every way out of it, against the real API server, store and operator."""

from __future__ import annotations

import json

from integration.reconcile.harness import DIGEST, Json, World, task_of
from palimpsest.api.outcomes import Outcome
from palimpsest.api.task import ArtifactInput, ClusterParameters, FileInput

PIPELINE: tuple[tuple[str, dict[str, bytes], int], ...] = (
    ("train", {"adapter_model.safetensors": b"adapter"}, 3),
    ("sample", {"instructions.jsonl": b"{}"}, 0),
    ("cluster", {"centroids.safetensors": b"centroids", "assignments.jsonl": b"{}"}, 0),
    ("histogram", {"histogram.json": b"{}"}, 1),
    ("select", {"selected.jsonl": b"{}"}, 0),
    ("annotate", {"annotated.jsonl": b"{}"}, 0),
    ("card", {"data.jsonl": b"{}"}, 0),
    ("sft", {"model.safetensors": b"model"}, 0),
)


def test_pipeline_in_any_order_survives_a_killed_operator(world: World) -> None:
    # Applied backwards: each waits for what it names.
    world.apply(world.alignment_run())
    world.apply(world.synthetic_dataset())
    world.apply(world.private_generator())
    world.until("the run waits", lambda: world.summary("align", "assistant") == "DatasetNotReady")
    assert world.jobs(world.custody) == []
    world.apply(world.privacy_budget())
    for stage, files, blocks in PIPELINE:
        job = world.job(world.custody if blocks else world.tenant, stage)
        assert job["metadata"]["namespace"] == (world.custody if blocks else world.tenant)
        world.kill()
        world.start()
        world.succeed(stage, files, blocks)
    world.until("the run is Ready", lambda: world.summary("align", "assistant") == "Ready")

    state = world.journal().refresh()
    assert sorted(charge.status for charge in state.charges.values()) == ["committed"] * 2
    assert state.reserved == 0
    assert 0 < state.committed < state.limit_units
    # One Job a stage, whatever was killed when; private stages in custody alone.
    stages = [
        job["metadata"]["labels"]["palimpsest.dev/stage"] for job in world.jobs(world.custody)
    ]
    assert sorted(stages) == ["histogram", "train"]
    budget = world.get("privacybudget", world.budget)
    world.until(
        "the budget shows both charges",
        lambda: len(world.get("pb", world.budget)["status"]["charges"]) == 2,
    )
    assert budget["status"]["gateOrder"] == state.order
    run = world.get("align", "assistant", world.tenant)
    assert "(epsilon 3.4, delta 1e-5)-differentially private" in run["status"]["guarantee"]


def test_a_generator_that_overspends_never_has_a_pod(world: World) -> None:
    world.apply(world.privacy_budget())
    world.apply(world.private_generator())
    world.succeed("train", {"adapter_model.safetensors": b"adapter"}, 3)
    world.until("the first is Ready", lambda: world.summary("pgen", "questions") == "Ready")
    world.apply(world.private_generator("second"))
    world.until("denied", lambda: world.summary("pgen", "second") == "BudgetExceeded")
    conditions = world.get("pgen", "second", world.tenant)["status"]["conditions"]
    stalled = next(item for item in conditions if item["type"] == "Stalled")
    assert stalled["status"] == "True"
    assert "of the gate of PrivacyBudget" in stalled["message"]
    assert len(world.jobs(world.custody)) == 1
    assert len(world.journal().refresh().charges) == 1


def test_a_deleted_job_resumes_in_a_new_attempt_within_the_reservation(world: World) -> None:
    world.apply(world.privacy_budget())
    world.apply(world.private_generator())
    job = world.job(world.custody, "train")
    world.spend(job, 1, 2)
    world.plane.kubectl(
        "delete", "job", job["metadata"]["name"], "-n", world.custody, "--wait=false"
    )
    for pod in world.pods(job):
        world.plane.kubectl(
            "delete",
            "pod",
            pod["metadata"]["name"],
            "-n",
            world.custody,
            "--force",
            "--grace-period=0",
            check=False,
        )
    second = world.job(world.custody, "train", attempt=2)
    assert task_of(second).charge == task_of(job).charge
    world.spend(second, 2, 2)
    world.publish(second, {"adapter_model.safetensors": b"adapter"})
    world.end_pods(second, Outcome.COMPLETED)
    world.until("Ready", lambda: world.summary("pgen", "questions") == "Ready")
    charge = next(iter(world.journal().refresh().charges.values()))
    assert charge.status == "committed"
    assert charge.intended_steps == 32


def test_a_program_failure_before_the_start_gives_the_reservation_back(world: World) -> None:
    world.apply(world.privacy_budget())
    world.apply(world.private_generator())
    job = world.job(world.custody, "train")
    world.end_pods(job, Outcome.MODEL_UNSUITABLE)
    world.until("failed", lambda: world.summary("pgen", "questions") == "ModelUnsuitable")
    world.until("released", lambda: world.journal().refresh().reserved == 0)
    assert world.journal().refresh().committed == 0


def test_a_program_failure_after_the_start_commits_in_full(world: World) -> None:
    world.apply(world.privacy_budget())
    world.apply(world.private_generator())
    job = world.job(world.custody, "train")
    reserved = world.journal().refresh().reserved
    world.spend(job, 1, 1)
    world.end_pods(job, Outcome.INTERNAL_ERROR)
    world.until("failed", lambda: world.summary("pgen", "questions") == "InternalError")
    world.until("committed", lambda: world.journal().refresh().committed == reserved)
    assert len(world.jobs(world.custody)) == 1


def test_a_disruption_without_restarts_left_commits_what_was_intended(world: World) -> None:
    world.apply(world.privacy_budget())
    generator = world.private_generator()
    generator["spec"]["training"]["restarts"] = 0
    world.apply(generator)
    job = world.job(world.custody, "train")
    world.spend(job, 1, 1)
    world.end_pods(job, Outcome.INTERRUPTED, disrupted=True)
    world.until("committed", lambda: world.journal().refresh().reserved == 0)
    charge = next(iter(world.journal().refresh().charges.values()))
    assert charge.status == "committed"
    assert charge.intended_steps == 8
    assert charge.cost == charge.intended_cost


def test_deleting_before_the_start_releases_and_after_it_commits(world: World) -> None:
    world.apply(world.privacy_budget())
    world.apply(world.private_generator())
    world.job(world.custody, "train")
    world.plane.kubectl("delete", "pgen", "questions", "-n", world.tenant, "--timeout=40s")
    state = world.journal().refresh()
    assert (state.reserved, state.committed) == (0, 0)
    assert world.jobs(world.custody) == []

    world.apply(world.private_generator())
    job = world.job(world.custody, "train")
    reserved = world.journal().refresh().reserved
    world.spend(job, 1, 1)
    world.plane.kubectl("delete", "pgen", "questions", "-n", world.tenant, "--timeout=40s")
    state = world.journal().refresh()
    assert (state.reserved, state.committed) == (0, reserved)


def test_a_recreated_generator_finds_its_spending_and_its_release(world: World) -> None:
    world.apply(world.privacy_budget())
    world.apply(world.private_generator())
    world.succeed("train", {"adapter_model.safetensors": b"adapter"}, 3)
    world.until("Ready", lambda: world.summary("pgen", "questions") == "Ready")
    before = world.journal().refresh()
    world.plane.kubectl("delete", "pgen", "questions", "-n", world.tenant, "--timeout=40s")
    world.apply(world.private_generator())
    world.until("Ready again", lambda: world.summary("pgen", "questions") == "Ready")
    assert world.journal().refresh().head == before.head
    assert world.jobs(world.custody) == []


def test_what_is_missing_is_named_and_recovers(world: World) -> None:
    world.apply(world.private_generator())
    world.until("held", lambda: world.summary("pgen", "questions") == "BudgetNotFound")
    world.plane.kubectl("label", "ns", world.custody, "palimpsest.dev/custody-")
    world.apply(world.privacy_budget())
    world.until("no custody", lambda: world.summary("pb", world.budget) == "CustodyNotGranted")
    assert world.jobs(world.custody) == []
    world.plane.kubectl("label", "ns", world.custody, "palimpsest.dev/custody=granted")
    world.job(world.custody, "train")


def test_a_data_set_waits_for_people_and_goes_on_with_their_answers(world: World) -> None:
    dataset = world.synthetic_dataset()
    dataset["spec"]["annotation"] = {"human": {}}
    for manifest in (world.privacy_budget(), world.private_generator(), dataset):
        world.apply(manifest)
    for stage, files, blocks in PIPELINE[:5]:
        world.succeed(stage, files, blocks)
    world.until("it waits", lambda: world.summary("synds", "questions") == "WaitingForAnswers")
    status = world.get("synds", "questions", world.tenant)["status"]
    (ready,) = [each for each in status["conditions"] if each["type"] == "Ready"]
    (place,) = [word.strip(":") for word in ready["message"].split() if ".jsonl" in word]
    # What it names is there to be answered.
    assert world.store("tenant").get(place) == b"{}"
    answers = f"s3://outputs/{world.mark}/answers.jsonl"
    dataset["spec"]["annotation"]["human"]["answers"] = {"uri": answers, "digest": DIGEST}
    world.apply(dataset)
    task = task_of(world.job(world.tenant, "annotate"))
    assert task.inputs["answers"] == FileInput(store="outputs", uri=answers, digest=DIGEST)
    assert {*task.inputs} == {"answers", "selected"}
    for stage, files, blocks in PIPELINE[5:7]:
        world.succeed(stage, files, blocks)
    world.until("Ready", lambda: world.summary("synds", "questions") == "Ready")


def observed(world: World) -> bool:
    found = world.get("synds", "questions", world.tenant)
    return bool(found["status"]["observedGeneration"] == found["metadata"]["generation"])


def stages(world: World) -> dict[str, str]:
    status = world.get("synds", "questions", world.tenant)["status"]
    return {stage["name"]: stage["state"] for stage in status["stages"]}


def test_intermediates_are_deleted_once_the_data_set_is_there_and_never_made_again(
    world: World,
) -> None:
    dataset = world.synthetic_dataset()
    dataset["spec"]["retainIntermediates"] = False
    del dataset["spec"]["resampling"]["clusters"]
    for manifest in (world.privacy_budget(), world.private_generator(), dataset):
        world.apply(manifest)
    for stage, files, blocks in PIPELINE[:-1]:
        world.succeed(stage, files, blocks)
    world.until("Ready", lambda: world.summary("synds", "questions") == "Ready")
    # Nobody gave the clusters: of 300 instructions, one for every ten.
    assert task_of(world.job(world.tenant, "cluster")).parameters == ClusterParameters(clusters=30)
    prune = world.job(world.tenant, "prune")
    task = task_of(prune)
    assert {*task.inputs} == {"pool-0", "pool-1", "clusters", "selected"}
    # Ready is the data set, not the tidying up, and a failure of that changes nothing.
    world.end_pods(prune, Outcome.INTERNAL_ERROR)
    world.until("prune failed", lambda: stages(world).get("prune") == "Failed")
    assert world.summary("synds", "questions") == "Ready"
    world.plane.kubectl(
        "delete", "job", prune["metadata"]["name"], "-n", world.tenant, "--wait=false"
    )

    def next_attempt() -> Json | None:
        job = world.job(world.tenant, "prune")
        return job if job["metadata"]["uid"] != prune["metadata"]["uid"] else None

    # As the stage does it: the files go, the manifests stay.
    again = world.until("another Job", next_attempt)
    store = world.store("tenant")
    for name in task.inputs:
        given = task.inputs[name]
        assert isinstance(given, ArtifactInput)
        for uri in list(store.list(given.uri.removesuffix("manifest.json") + "attempts/")):
            store.delete(uri)
    world.publish(again, {})
    world.end_pods(again, Outcome.COMPLETED)
    world.until("pruned", lambda: stages(world).get("prune") == "Succeeded")
    status = world.get("synds", "questions", world.tenant)["status"]
    assert (status["poolShortfall"], status["poolThatWouldDo"]) == (7, 412)
    ready = next(each for each in status["conditions"] if each["type"] == "Ready")
    assert "spec.sampling.count 412 would have done" in ready["message"]

    # Looked at afresh, by an operator that remembers nothing, without a Job to go by.
    world.kill()
    world.plane.kubectl("delete", "jobs", "--all", "-n", world.tenant)
    changed = json.dumps({"spec": {"ttlSecondsAfterFinished": 86400}})
    world.plane.kubectl(
        "patch", "synds", "questions", "-n", world.tenant, "--type=merge", "-p", changed
    )
    world.start()
    world.until("it was looked at", lambda: observed(world))
    assert stages(world) == dict.fromkeys(stages(world), "Succeeded")
    assert world.summary("synds", "questions") == "Ready"
    assert world.jobs(world.tenant) == []
    # To want them kept by now changes nothing either.
    dataset["spec"]["retainIntermediates"] = True
    world.apply(dataset)
    world.until("it was looked at", lambda: observed(world))
    assert "prune" not in stages(world)
    assert world.summary("synds", "questions") == "Ready"
    assert world.jobs(world.tenant) == []
