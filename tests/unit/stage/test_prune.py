"""Deleting intermediates: all of them, nothing else, and however often it is begun."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cluster.fixtures import ObjectStore
from palimpsest.api.task import ArtifactInput, CardParameters, PruneParameters
from unit.stage.ground import Ground

KEEP = PruneParameters(keep=["clusters.json"])


@pytest.fixture
def ground(object_store: ObjectStore, tmp_path: Path) -> Ground:
    return Ground.on(object_store, tmp_path, tmp_path.name.replace("_", "-"), 100)


def intermediates(ground: Ground) -> dict[str, ArtifactInput]:
    mark = str(ground.folder).encode()
    clusters = {"clusters": 2, "dimension": 8, "poolSizes": [1, 1], "mark": mark.decode()}
    return {
        "pool-0": ground.push_artifact({"instructions.jsonl": b'{"id": 1}' + mark}),
        "pool-1": ground.push_artifact({"instructions.jsonl": b'{"id": 2}' + mark}),
        "clusters": ground.push_artifact(
            {
                "clusters.json": json.dumps(clusters).encode(),
                "centroids.safetensors": b"centroids" + mark,
                "assignments.jsonl": b"{}" + mark,
            }
        ),
    }


def left(ground: Ground, inputs: dict[str, ArtifactInput]) -> dict[str, set[str]]:
    """What each artifact's place still holds."""
    found = {}
    for name, one in inputs.items():
        prefix = one.uri.removesuffix("manifest.json")
        found[name] = {uri.removeprefix(prefix) for uri in ground.store("root").list(prefix)}
    return found


def test_what_is_listed_goes_and_manifests_and_what_is_kept_stay(ground: Ground) -> None:
    inputs = intermediates(ground)
    others = intermediates(Ground(**{**vars(ground), "folder": ground.folder / "other"}))
    untouched = left(ground, others)
    # An attempt that lost the race to publish left its files too.
    prefix = inputs["pool-0"].uri.removesuffix("manifest.json")
    ground.store("root").put(f"{prefix}attempts/2/instructions.jsonl", b"lost")
    task = ground.task(KEEP, {**inputs}, "outputs")
    # A first attempt was killed in the middle.
    ground.store("root").delete(f"{prefix}attempts/1/instructions.jsonl")

    ended = ground.run(task)
    assert ended.outcome == "Completed", ended.said
    assert left(ground, inputs) == {
        "pool-0": {"manifest.json"},
        "pool-1": {"manifest.json"},
        "clusters": {"manifest.json", "attempts/1/clusters.json"},
    }
    assert left(ground, others) == untouched
    assert ground.manifest(task.output).files == []

    # A tightened budget has another guarantee, so another card: it is made of what stayed.
    rows = [{"id": 1, "instruction": f"is {ground.folder} a folder"}]
    card = ground.task(
        CardParameters(name="quick", guarantee="(3, 1e-5)-DP"),
        {
            "data": ground.push_rows("annotated.jsonl", rows),
            "clusters": inputs["clusters"],
            "histogram": ground.push_artifact({"histogram.json": HISTOGRAM}),
        },
        "outputs",
    )
    ended = ground.run(card)
    assert ended.outcome == "Completed", ended.said
    assert json.loads(ground.read(card.output, "card.json"))["resampling"]["shares"]["pool"] == [
        0.5,
        0.5,
    ]


HISTOGRAM = json.dumps({"clusters": 2, "noiseMultiplier": "10", "noisy": [1, 2]}).encode()


def test_nothing_of_another_store_is_deleted(ground: Ground) -> None:
    """Releases are read with the same keys; they are the custodian's."""
    inputs = intermediates(ground)
    released = inputs["clusters"].model_copy(update={"store": "releases"})
    ended = ground.run(ground.task(KEEP, {"clusters": released}, "outputs"))
    assert ended.outcome == "InvalidTask", ended.said
    assert left(ground, {"clusters": inputs["clusters"]})["clusters"] == {
        "manifest.json",
        *(f"attempts/1/{name}" for name in ("clusters.json", "centroids.safetensors")),
        "attempts/1/assignments.jsonl",
    }
