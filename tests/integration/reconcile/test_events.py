"""Events of a resource: one for each thing said, however often it is said."""

from __future__ import annotations

from typing import Any

from integration.reconcile.harness import World


def told(world: World, reason: str) -> list[dict[str, Any]]:
    """Events of the data set with this reason."""
    listed = world.kube.items(f"/api/v1/namespaces/{world.tenant}/events")
    return [
        event
        for event in listed
        if event["involvedObject"]["kind"] == "SyntheticDataset" and event["reason"] == reason
    ]


def test_what_is_said_again_raises_the_count_of_one_event(world: World) -> None:
    def standing(reason: str) -> None:
        world.until(reason, lambda: world.summary("synds", "questions") == reason)

    world.apply(world.synthetic_dataset())
    standing("GeneratorNotFound")
    for _ in range(2):
        world.apply(world.private_generator())
        standing("BudgetNotFound")
        world.plane.kubectl("delete", "pgen", "questions", "-n", world.tenant)
        standing("GeneratorNotFound")
    world.until("the last is told of", lambda: told(world, "GeneratorNotFound")[0]["count"] == 3)
    (again,), (event,) = told(world, "BudgetNotFound"), told(world, "GeneratorNotFound")
    assert (again["type"], again["count"]) == ("Normal", 2)
    resource = world.get("synds", "questions", world.tenant)
    ready = next(each for each in resource["status"]["conditions"] if each["type"] == "Ready")
    assert event["message"] == ready["message"]
    assert event["involvedObject"]["uid"] == resource["metadata"]["uid"]
    assert event["firstTimestamp"] <= event["lastTimestamp"]
