"""What pipelines that apply manifests from Git rely on: any order, no drift, no field fights."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from cluster.fixtures import ControlPlane, ObjectStore
from integration.reconcile.harness import Json, World
from integration.reconcile.kube import named
from integration.reconcile.test_pipeline import PIPELINE

KINDS = ("privacybudget", "pgen", "synds", "align")
SHORT = tuple(stage for stage in PIPELINE if stage[0] not in ("cluster", "histogram", "select"))
PATIENCE_SECONDS = 300
# The operator looks at everything again within a few seconds of a change; after them it is quiet.
QUIET_SECONDS = 5.0


def manifests(world: World) -> dict[str, Json]:
    return dict(zip(KINDS, world.manifests(), strict=True))


def short(world: World) -> dict[str, Json]:
    """The same with the stages alone that lead from one kind to the next."""
    made = manifests(world)
    del made["synds"]["spec"]["resampling"]
    return made


def live(world: World, kind: str, manifest: Json) -> Json:
    meta = manifest["metadata"]
    return world.get(kind, meta["name"], meta.get("namespace", ""))


def run_to_the_end(
    *worlds: World, pipeline: tuple[tuple[str, dict[str, bytes], int], ...] = PIPELINE
) -> None:
    """Whoever has a Job has it done."""
    ahead = [(world, list(pipeline)) for world in worlds]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(stages for _, stages in ahead):
        assert time.monotonic() < deadline, [stages[:1] for _, stages in ahead]
        # One question for all: to ask every namespace would keep the API server from its work.
        there = {
            (job["metadata"]["namespace"], job["metadata"]["labels"]["palimpsest.dev/stage"])
            for job in worlds[0].kube.items("/apis/batch/v1/jobs", "palimpsest.dev/stage")
        }
        for world, stages in ahead:
            if not stages:
                continue
            stage, files, blocks = stages[0]
            if (world.custody if blocks else world.tenant, stage) in there:
                world.succeed(stage, files, blocks)
                stages.pop(0)
        time.sleep(0.2)
    for world in worlds:
        world.until("Ready", partial(_ready, world), PATIENCE_SECONDS)


def _ready(world: World) -> bool:
    return world.summary("align", "assistant") == "Ready"


def _seen(world: World, kind: str) -> bool:
    found = live(world, kind, manifests(world)[kind])
    return bool(found["status"]["observedGeneration"] == found["metadata"]["generation"])


@pytest.fixture
def worlds(
    control_plane: ControlPlane, object_store: ObjectStore, tmp_path: Path
) -> Iterator[list[World]]:
    """A custodian and a tenant for each order, and one operator for all."""
    orders = itertools.permutations(KINDS)
    made = [World(control_plane, object_store, tmp_path) for _ in orders]
    made[0].define()
    for world in made:
        world.inhabit()
    made[0].configure()
    made[0].start()
    try:
        yield made
    finally:
        made[0].kill()


@pytest.mark.parametrize(
    ("choose", "pipeline"),
    [
        pytest.param(short, SHORT, id="short"),
        pytest.param(manifests, PIPELINE, id="resampled", marks=pytest.mark.full),
    ],
)
def test_every_order_of_the_four_manifests_ends_ready(
    worlds: list[World],
    choose: Callable[[World], dict[str, Json]],
    pipeline: tuple[tuple[str, dict[str, bytes], int], ...],
) -> None:
    orders = list(itertools.permutations(KINDS))
    for turn in range(len(KINDS)):
        stream = [
            json.dumps(choose(world)[order[turn]])
            for world, order in zip(worlds, orders, strict=True)
        ]
        worlds[0].plane.kubectl("apply", "-f", "-", stdin="\n---\n".join(stream))
        for world, order in zip(worlds, orders, strict=True):
            # Each is seen before the next comes: they do not merely arrive together.
            world.until(
                f"{order[turn]} is seen", partial(_seen, world, order[turn]), PATIENCE_SECONDS
            )
    run_to_the_end(*worlds, pipeline=pipeline)
    spending = sum(blocks > 0 for _, _, blocks in pipeline)
    for world in worlds:
        charges = world.journal().refresh().charges.values()
        assert [charge.status for charge in charges] == ["committed"] * spending


def test_what_is_applied_again_is_as_it_was_and_nobody_fights_over_it(world: World) -> None:
    wanted = manifests(world)
    stream = "\n---\n".join(json.dumps(manifest) for manifest in wanted.values())
    ours = ("--server-side", "--field-manager=pipeline")
    world.plane.kubectl("apply", *ours, "-f", "-", stdin=stream)
    run_to_the_end(world)
    time.sleep(QUIET_SECONDS)
    before = {kind: live(world, kind, manifest) for kind, manifest in wanted.items()}

    # `kubectl diff` ends with 1, and says what differs, if anything does.
    for way in (ours, ()):
        assert world.plane.kubectl("diff", *way, "-f", "-", stdin=stream) == ""
    # A second manager that wants the same has no conflict, and the operator answers nothing to it.
    for manager in ("pipeline", "another"):
        again = ("--server-side", f"--field-manager={manager}")
        world.plane.kubectl("apply", *again, "-f", "-", stdin=stream)
    time.sleep(QUIET_SECONDS)
    for kind, manifest in wanted.items():
        after = live(world, kind, manifest)
        assert after["spec"] == before[kind]["spec"], kind
        assert after["status"] == before[kind]["status"], kind
        assert after["metadata"]["generation"] == 1, kind


def test_the_operator_owns_status_and_its_finalizer_alone(world: World) -> None:
    wanted = manifests(world)
    for manifest in wanted.values():
        world.plane.kubectl(
            "apply",
            "--server-side",
            "--field-manager=pipeline",
            "-f",
            "-",
            stdin=json.dumps(manifest),
        )
    run_to_the_end(world)
    for kind, manifest in wanted.items():
        meta = manifest["metadata"]
        path = named(kind, meta["name"], meta.get("namespace", ""))
        owned = world.kube.call("GET", path)["metadata"]["managedFields"]
        for entry in owned:
            if entry["manager"] == "pipeline":
                continue
            fields = entry["fieldsV1"]
            assert set(fields) <= {"f:status", "f:metadata"}, (kind, entry)
            assert set(fields.get("f:metadata", {})) <= {"f:finalizers"}, (kind, entry)
