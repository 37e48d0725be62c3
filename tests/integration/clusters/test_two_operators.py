"""Two clusters, one set of records: two operators that know of each other only by the journal."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cluster.fixtures import ControlPlane, ObjectStore, Site
from integration.clusters.worlds import (
    ADAPTER,
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

Pair = tuple[World, World]
# Of a training of this epsilon the budget holds four.
EPSILON, FITTING, EACH = "2", 4, 3


@pytest.fixture(scope="module")
def other_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with Site(tmp_path_factory.mktemp("other-plane")).running() as plane:
        yield plane


@pytest.fixture
def pair(
    control_plane: ControlPlane,
    other_plane: ControlPlane,
    object_store: ObjectStore,
    tmp_path: Path,
) -> Iterator[Pair]:
    """One budget of one data set, applied in both clusters at once."""
    here = World(control_plane, object_store, tmp_path)
    there = elsewhere(here, other_plane, tmp_path / "there")
    prepare(here)
    prepare(there)
    trust(here, there)
    trust(there, here)
    with operated(here), operated(there):
        with ThreadPoolExecutor(2) as both:
            list(both.map(lambda world: world.apply(world.privacy_budget()), (here, there)))
        for world in (here, there):
            world.until("the budget is Ready", lambda: _budget_ready(world))  # noqa: B023
        yield here, there


def _budget_ready(world: World) -> bool:
    return world.summary("privacybudget", world.budget) == "Ready"


def _cluster(world: World) -> str:
    return str(world.get("namespace", "kube-system")["metadata"]["uid"])


def test_together_they_grant_what_fits_and_each_sees_the_others_charges(pair: Pair) -> None:
    names = {
        world: [f"{side}-{n}" for n in range(EACH)] for side, world in zip("ab", pair, strict=True)
    }

    def apply(world: World) -> None:
        for name in names[world]:
            world.apply(world.private_generator(name, EPSILON))

    with ThreadPoolExecutor(2) as both:
        list(both.map(apply, pair))

    def decided(world: World, name: str) -> bool:
        return bool(jobs_of(world, name)) or world.summary("pgen", name) == "BudgetExceeded"

    for world in pair:
        for name in names[world]:
            world.until(f"{name} is decided", lambda: decided(world, name))  # noqa: B023
    state = pair[0].journal().refresh()
    assert len(state.charges) == FITTING
    assert state.left < state.reserved // FITTING
    assert state.reserved <= state.limit_units
    for world in pair:
        mine = {
            c.subject.name for c in state.charges.values() if c.subject.cluster == _cluster(world)
        }
        assert mine == {name for name in names[world] if jobs_of(world, name)}
        # A look at the journal is due every few minutes; a touch makes it now.
        world.plane.kubectl("annotate", "pb", world.budget, "look=now")
        world.until("all charges are shown", lambda: shows_head(world))  # noqa: B023
    shown: list[Any] = [budget_status(world) for world in pair]
    assert shown[0]["shares"] == shown[1]["shares"]
    assert shown[0]["charges"] == shown[1]["charges"]
    assert len(shown[0]["charges"]) == FITTING


def test_a_charge_that_the_other_holds_is_not_adopted_until_it_is_settled(pair: Pair) -> None:
    here, there = pair
    here.apply(here.private_generator())
    job = training_of(here, "questions")
    there.apply(there.private_generator())
    there.until("held", lambda: there.summary("pgen", "questions") == "ChargeHeldElsewhere")
    assert jobs_of(there, "questions") == []
    here.spend(job, 1, 3)
    here.publish(job, ADAPTER)
    here.end_pods(job, Outcome.COMPLETED)
    here.until("Ready", lambda: here.summary("pgen", "questions") == "Ready")
    settled = here.journal().refresh()
    # Settled: its release is there for both, and was paid for once.
    there.plane.kubectl("annotate", "pgen", "questions", "-n", there.tenant, "look=now")
    there.until("Ready", lambda: there.summary("pgen", "questions") == "Ready")
    assert jobs_of(there, "questions") == []
    assert there.journal().refresh().head == settled.head
    (charge,) = settled.charges.values()
    spent = task_of(job).charge
    assert spent is not None
    assert charge.id == spent.id
    assert (charge.status, charge.subject.cluster) == ("committed", _cluster(here))
