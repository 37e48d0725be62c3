"""What attempts kept for one another goes once the result is there, whoever published it."""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster.fixtures import ObjectStore
from palimpsest.api.task import MountedKeys, Task
from palimpsest_stage.parts import CHECKPOINTS, PARTS
from palimpsest_stage.runtime import Context
from unit.stage.aligned import alignment, sft
from unit.stage.ground import Ground

LEFT = (
    f"{CHECKPOINTS}00000003-1-pod/checkpoint.json",
    f"{CHECKPOINTS}00000003-1-pod/optimizer.pt",
    f"{PARTS}judge-0123456789abcdef/1-pod-000000.json",
)


@pytest.fixture
def ground(object_store: ObjectStore, tmp_path: Path) -> Ground:
    return Ground.on(object_store, tmp_path, tmp_path.name.replace("_", "-"), 100)


@pytest.fixture
def killed(ground: Ground, model_folder: Path, tmp_path: Path) -> Task:
    """Whose pod published, and was killed before it deleted anything."""
    task = alignment(ground, model_folder, sft())
    place = f"{task.output.uri}{ground.folder.name}/"
    task = task.model_copy(update={"output": task.output.model_copy(update={"uri": place})})
    (tmp_path / "training.json").write_text("{}")
    context = Context(task, ground.environment(task))
    context.publish({"training.json": tmp_path / "training.json"})
    for name in LEFT:
        context.output.put(f"{place}{name}", b"of a step before the last")
    return task


def kept(ground: Ground, task: Task) -> set[str]:
    place = task.output.uri
    return {uri.removeprefix(place) for uri in ground.store("root").list(place)}


def test_the_pod_after_one_that_published_deletes_what_that_one_kept(
    ground: Ground, killed: Task
) -> None:
    ended = ground.run(killed, attempt=2)
    assert ended.outcome == "Completed", ended.said
    published = {file.path for file in ground.manifest(killed.output).files}
    assert kept(ground, killed) == {"manifest.json", *published}
    assert ground.read(killed.output, "training.json") == b"{}"


def test_keys_that_may_not_delete_leave_it(ground: Ground, killed: Task) -> None:
    reader = MountedKeys(secret="operator")
    stores = {
        name: access.model_copy(update={"credentials": reader})
        for name, access in killed.stores.items()
    }
    before = kept(ground, killed)
    ended = ground.run(killed.model_copy(update={"stores": stores}), attempt=2)
    assert ended.outcome == "Completed", ended.said
    assert kept(ground, killed) == before > set(LEFT)
