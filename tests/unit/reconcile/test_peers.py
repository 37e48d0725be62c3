"""Jobs whose processes train together: their manifest, their Service, and what is read of them."""

from __future__ import annotations

from typing import Any

import pytest
from palimpsest.api.budget import Custodian
from palimpsest.api.common import PrivateCompute, TrainingCompute
from palimpsest.api.generator import Lora
from palimpsest.api.outcomes import Outcome
from palimpsest.api.task import (
    MountedKeys,
    Output,
    StoreAccess,
    Subject,
    Task,
    TrainParameters,
)
from palimpsest.reconcile import jobs, peers
from palimpsest.reconcile.observed import Meta, Pod, Settings
from palimpsest.terms.placement import placement_refusal
from palimpsest_stage.distributed.world import World

SETTINGS = Settings(stage_image="stage@sha256:" + "0" * 64, cluster="c1")
CUSTODIAN = Custodian(namespace="custody")
DIGEST = "sha256:" + "ab" * 32
STORE = StoreAccess(
    endpoint="http://s3", region="r", path_style=True, credentials=MountedKeys(secret="keys")
)
TRAIN = TrainParameters(
    prompt="",
    lora=Lora(),
    records=100,
    expected_batch_size=10,
    micro_batch_size=2,
    steps=4,
    block_steps=2,
    restarts=1,
    learning_rate="0.1",
    clipping_norm="1",
    noise_multiplier="1",
    max_length=16,
    precision="float32",
)
TASK = Task(
    subject=Subject(namespace="assistants", kind="PrivateGenerator", name="questions"),
    parameters=TRAIN,
    stores={"one": STORE},
    inputs={},
    output=Output(store="one", uri="s3://b/p/"),
)


def job(compute: PrivateCompute, name: str = "questions") -> Any:
    meta = Meta("PrivateGenerator", "assistants", name, "uid-1", 1, deleting=False)
    return jobs.manifest(meta, TASK, DIGEST, compute, SETTINGS, CUSTODIAN, 1)


def environment(made: Any, index: int = 0) -> dict[str, str]:
    """What a pod of the Job finds; the Job controller adds the index."""
    (container,) = made["spec"]["template"]["spec"]["containers"]
    given = {item["name"]: item["value"] for item in container["env"] if "value" in item}
    return given | {"JOB_COMPLETION_INDEX": str(index)}


def test_a_job_of_one_process_is_as_any_private_stages() -> None:
    one, plain = job(TrainingCompute()), job(PrivateCompute())
    for made in (one, plain):
        # The digest of what pods are given covers the two new fields.
        del made["metadata"]["annotations"]
    assert one == plain
    assert peers.service({**one, "metadata": {**one["metadata"], "uid": "u"}}) is None


def test_all_pods_begin_together_and_the_loss_of_one_ends_the_attempt() -> None:
    spec = job(TrainingCompute(replicas=3, processes_per_replica=2))["spec"]
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (3, 3, "Indexed")
    assert spec["backoffLimit"] == 0
    assert spec["podFailurePolicy"] == job(TrainingCompute())["spec"]["podFailurePolicy"]
    assert {rule["action"] for rule in spec["podFailurePolicy"]["rules"]} == {"FailJob"}


def test_the_stage_reads_what_the_operator_wrote() -> None:
    made = job(TrainingCompute(replicas=3, processes_per_replica=2))
    name = made["metadata"]["name"]
    worlds = [World.of(environment(made, index)) for index in range(3)]
    assert [world.rank(local) for world in worlds for local in range(2)] == list(range(6))
    # The Job controller names the pods' hosts <job>-<index>, under the pods' subdomain.
    assert {world.leader for world in worlds} == {(f"{name}-0.{name}", peers.PORT)}
    assert made["spec"]["template"]["spec"]["subdomain"] == name
    alone = World.of(environment(job(TrainingCompute(processes_per_replica=2))))
    assert (alone.size, alone.leader) == (2, None)


def test_the_processes_of_one_pod_need_no_service_nor_a_way_in() -> None:
    made = job(TrainingCompute(processes_per_replica=4))
    assert (made["spec"]["completions"], made["spec"]["parallelism"]) == (1, 1)
    template = made["spec"]["template"]
    assert "subdomain" not in template["spec"]
    assert peers.LABEL_PEERS not in template["metadata"]["labels"]


@pytest.mark.parametrize("name", ["questions", "7b", "q" * 63])
def test_the_service_is_the_jobs_own(name: str) -> None:
    made = job(TrainingCompute(replicas=2), name)
    seen = {**made, "metadata": {**made["metadata"], "uid": "uid-of-job"}}
    service = peers.service(seen)
    assert service is not None
    pod = made["spec"]["template"]
    assert service["metadata"]["name"] == pod["spec"]["subdomain"]
    assert service["metadata"]["namespace"] == "custody"
    # A Service's name must begin with a letter, and have at most 63 characters.
    assert service["metadata"]["name"][0].isalpha()
    assert len(service["metadata"]["name"]) <= 63
    (owner,) = service["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Job", "uid-of-job")
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert service["spec"]["selector"] == {peers.LABEL_PEERS: made["metadata"]["name"]}


def test_the_work_and_its_charge_do_not_depend_on_who_does_it() -> None:
    tasks = {
        environment(job(compute))["PALIMPSEST_TASK"]
        for compute in (TrainingCompute(), TrainingCompute(replicas=4, processes_per_replica=8))
    }
    assert len(tasks) == 1


def test_more_pods_than_the_custodian_allows_are_refused() -> None:
    allowed, wanted = CUSTODIAN.compute, TrainingCompute(replicas=2, processes_per_replica=8)
    told = placement_refusal(allowed, wanted, "spec.compute")
    assert told == (
        "spec.compute.replicas: 2 is above the custodian's cap of 1 "
        "(custodian.compute.maxReplicas of the budget)"
    )
    more = allowed.model_copy(update={"max_replicas": 2})
    assert placement_refusal(more, wanted, "spec.compute") == ""


FIRST_SEEN = {
    "type": "Failed",
    "status": "True",
    "message": "failed with exit code 75 matching FailJob rule at index 1",
}


@pytest.mark.parametrize(
    ("words", "failure", "outcome"),
    [
        ((Outcome.INTERRUPTED, Outcome.INTERRUPTED), "Retryable", Outcome.INTERRUPTED),
        ((Outcome.INTERNAL_ERROR, Outcome.INTERRUPTED), "Program", Outcome.INTERNAL_ERROR),
        ((Outcome.INTERRUPTED, Outcome.OUT_OF_RESOURCES), "Program", Outcome.OUT_OF_RESOURCES),
        ((Outcome.COMPLETED, Outcome.STORE_UNAVAILABLE), "Retryable", Outcome.STORE_UNAVAILABLE),
        ((None, Outcome.INTERRUPTED), "Retryable", Outcome.INTERRUPTED),
    ],
)
def test_one_pods_own_failure_outweighs_that_the_others_missed_it(
    words: tuple[Outcome | None, ...], failure: str, outcome: Outcome
) -> None:
    made = job(TrainingCompute(replicas=2))
    pods = tuple(Pod(str(i), "Failed", word, None) for i, word in enumerate(words))
    seen = jobs.observe_job({**made, "status": {"conditions": [FIRST_SEEN]}}, pods)
    assert (seen.failure, seen.outcome) == (failure, outcome)
