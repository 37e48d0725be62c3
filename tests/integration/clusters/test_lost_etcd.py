"""A cluster that lost everything it knew: the journal and the releases still know."""

from __future__ import annotations

from pathlib import Path

from cluster.fixtures import ObjectStore, Site
from integration.clusters.worlds import (
    ADAPTER,
    SHOWN,
    budget_status,
    elsewhere,
    jobs_of,
    operated,
    prepare,
    shows_head,
    training_of,
    trust,
)
from integration.reconcile.harness import World, task_of
from palimpsest.api.outcomes import Outcome

CLUSTER = "the-cluster"
BLOCKS = 3


def _finish(world: World, generator: str, attempt: int) -> None:
    job = training_of(world, generator, attempt)
    world.spend(job, attempt, BLOCKS)
    world.publish(job, ADAPTER)
    world.end_pods(job, Outcome.COMPLETED)
    world.until(f"{generator} is Ready", lambda: world.summary("pgen", generator) == "Ready")


def test_an_emptied_etcd_is_rebuilt_from_the_journal_and_nothing_is_paid_twice(
    object_store: ObjectStore, tmp_path: Path
) -> None:
    site = Site(tmp_path / "plane")
    with site.running() as plane:
        (tmp_path / "before").mkdir()
        world = World(plane, object_store, tmp_path / "before")
        prepare(world, CLUSTER)
        with operated(world):
            world.apply(world.privacy_budget())
            world.apply(world.private_generator("finished", "2"))
            _finish(world, "finished", 1)
            # One more is in the middle of its training when all is lost.
            world.apply(world.private_generator("running", "2"))
            lost = training_of(world, "running")
            world.spend(lost, 1, 1)
            world.plane.kubectl("annotate", "pb", world.budget, "look=again")
            world.until("the budget shows the head", lambda: shows_head(world))
            shown = budget_status(world)
    before = world.journal().refresh()
    assert sorted(charge.status for charge in before.charges.values()) == ["committed", "started"]

    site.empty()
    with site.running() as plane:
        assert plane.kubectl("get", "ns", world.tenant, "--ignore-not-found") == ""
        again = elsewhere(world, plane, tmp_path / "after")
        prepare(again, CLUSTER)
        # The key that signed receipts was a Secret of the lost cluster; its public half was kept.
        trust(again, world)
        with operated(again):
            again.apply(again.privacy_budget())
            again.until("the budget shows the head", lambda: shows_head(again))
            rebuilt = budget_status(again)
            assert {key: rebuilt[key] for key in SHOWN} == {key: shown[key] for key in SHOWN}

            # What was released is found, without a Job and without an entry.
            again.apply(again.private_generator("finished", "2"))
            again.until("it is Ready", lambda: again.summary("pgen", "finished") == "Ready")
            assert jobs_of(again, "finished") == []
            assert again.journal().refresh().head == before.head

            # What was running goes on in a new attempt under its old charge.
            again.apply(again.private_generator("running", "2"))
            assert task_of(training_of(again, "running", 2)).charge == task_of(lost).charge
            _finish(again, "running", 2)
            again.until("the budget shows the head", lambda: shows_head(again))
    after = again.journal().refresh()
    assert set(after.charges) == set(before.charges)
    assert {charge.status for charge in after.charges.values()} == {"committed"}
    assert before.committed < after.committed <= before.committed + before.reserved
    assert after.reserved == 0
