"""Mutated manifests: refused with a reason, or admitted and then reconciled; nothing breaks."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import pytest
from cluster.fixtures import ControlPlane, ObjectStore
from integration.admission import ground
from integration.admission.mutations import mutant
from integration.admission.wrong import Server
from integration.reconcile.harness import World
from integration.reconcile.kube import PLURALS

BATCH = 250


@pytest.fixture(scope="module")
def operated(
    world: ground.World,
    control_plane: ControlPlane,
    object_store: ObjectStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """The operator beside the admission server of `world`."""
    made = World(control_plane, object_store, tmp_path_factory.mktemp("operated"))
    made.prepare()
    made.start()
    try:
        yield made
    finally:
        made.kill()


@pytest.mark.parametrize(
    "count", [500, pytest.param(10_000, marks=pytest.mark.full)], ids=["some", "many"]
)
def test_a_mutant_is_refused_with_a_reason_or_reconciled(
    world: ground.World, operated: World, count: int
) -> None:
    seed = secrets.randbits(32)
    random = Random(seed)
    server = Server(world)
    server.settle(world)
    admitted = 0
    try:
        for batch in range(0, count, BATCH):
            mutants = [
                mutant(random, f"mutant-{number}")
                for number in range(batch, min(batch + BATCH, count))
            ]
            with ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(server.create, mutants))
            wrong = [text for text in answers if "could not check" in text]
            assert not wrong, wrong
            there = [each for each, said in zip(mutants, answers, strict=True) if not said]
            admitted += len(there)
            _reconciled(operated, server, there)
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(server.remove, there))
    except BaseException:
        print(f"seed {seed}")
        raise
    print(f"{count} mutants, {admitted} admitted, seed {seed}")
    assert 0.02 * count < admitted < 0.98 * count
    assert world.server.process.poll() is None
    assert "review failed" not in world.server.log.read_text()


def _reconciled(operated: World, server: Server, there: list[dict[str, Any]]) -> None:
    """Each has a status that speaks of its spec, and the operator stumbled over none."""

    def behind() -> list[str]:
        return [each["metadata"]["name"] for each in there if not server.is_current(each)]

    try:
        operated.until("statuses", lambda: not behind(), 60)
    except AssertionError as error:
        stuck = [each for each in there if each["metadata"]["name"] in behind()]
        raise AssertionError(json.dumps(stuck[:3])) from error
    assert operated.operator is not None
    assert operated.operator.poll() is None
    log = (operated.folder / "operator.log").read_text()
    assert "reconcile failed" not in log, log[-4000:]


def test_every_kind_is_among_the_mutants() -> None:
    random = Random(1)
    assert {mutant(random, "m")["kind"] for _ in range(100)} == PLURALS.keys()
