"""A training in several pods: its Service, and what ends the attempt, on the real API server."""

from __future__ import annotations

import json
import signal
from typing import Any

from integration.reconcile.harness import World
from palimpsest.api.outcomes import Outcome

Json = dict[str, Any]


def begin(world: World) -> Json:
    """A generator of two pods; its Job."""
    budget, generator = world.privacy_budget(), world.private_generator()
    budget["spec"]["custodian"]["compute"] = {"maxReplicas": 2}
    generator["spec"]["compute"] = {"replicas": 2}
    world.apply(budget)
    world.apply(generator)
    job = world.job(world.custody, "train")
    world.until("two pods", lambda: len(world.pods(job)) == 2)
    return job


def services(world: World) -> list[Json]:
    text = world.plane.kubectl("get", "services", "-n", world.custody, "-o", "json")
    items: list[Json] = json.loads(text)["items"]
    return items


def test_the_pods_have_a_service_that_goes_with_their_job(world: World) -> None:
    job = begin(world)
    (service,) = world.until("a Service", lambda: services(world))
    name = job["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    hosts = {f"{pod['spec']['hostname']}.{pod['spec']['subdomain']}" for pod in world.pods(job)}
    assert hosts == {f"{name}-{index}.{service['metadata']['name']}" for index in range(2)}

    # One that is gone is made again, by whichever operator looks next.
    world.kill(signal.SIGKILL)
    world.plane.kubectl("delete", "service", service["metadata"]["name"], "-n", world.custody)
    world.start()
    (again,) = world.until("a Service", lambda: services(world))
    assert again["metadata"]["uid"] != service["metadata"]["uid"]

    world.spend(job, 1, blocks=1)
    world.plane.kubectl("delete", "job", name, "-n", world.custody, "--wait=false")
    world.until(
        "it is collected",
        lambda: again["metadata"]["uid"] not in {s["metadata"]["uid"] for s in services(world)},
    )


def test_one_lost_pod_ends_the_attempt_and_the_next_begins_with_all(world: World) -> None:
    job = begin(world)
    world.spend(job, 1, blocks=1)
    lost = world.pods(job)[1]["metadata"]["name"]
    world.end_pods(job, Outcome.INTERRUPTED, only=lost)
    second = world.job(world.custody, "train", attempt=2)
    assert second["spec"]["completions"] == 2
    world.until("two pods", lambda: len(world.pods(second)) == 2)
    assert world.journal().refresh().committed == 0


def test_a_pods_own_failure_is_not_tried_again(world: World) -> None:
    job = begin(world)
    world.spend(job, 1, blocks=1)
    failed = world.pods(job)[0]["metadata"]["name"]
    world.end_pods(job, Outcome.INTERNAL_ERROR, only=failed)
    world.until("told", lambda: world.summary("pgen", "questions") == "InternalError")
    world.until("committed", lambda: world.journal().refresh().committed > 0)
    assert [each["metadata"]["uid"] for each in world.jobs(world.custody)] == [
        job["metadata"]["uid"]
    ]


def test_replicas_beyond_the_custodians_cap_never_have_a_pod(world: World) -> None:
    generator = world.private_generator()
    generator["spec"]["compute"] = {"replicas": 2}
    world.apply(world.privacy_budget())
    world.apply(generator)
    world.until("refused", lambda: world.summary("pgen", "questions") == "PlacementNotAllowed")
    assert world.jobs(world.custody) == []
