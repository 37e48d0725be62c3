"""Progress is told for show: nothing rests on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cluster.fixtures import ObjectStore
from palimpsest.storage import StoreUnavailable
from palimpsest_stage import runtime
from palimpsest_stage.runtime import Context
from unit.stage.aligned import alignment, sft
from unit.stage.ground import Ground


def test_a_report_that_the_store_does_not_take_ends_no_stage(
    object_store: ObjectStore,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ground = Ground.on(object_store, tmp_path, tmp_path.name.replace("_", "-"), 100)
    task = alignment(ground, model_folder, sft())
    context = Context(task, ground.environment(task))
    put = context.output.put
    monkeypatch.setattr(runtime, "PROGRESS_SECONDS", 0.0)

    def away(*_: Any) -> None:
        raise StoreUnavailable("no answer")

    monkeypatch.setattr(context.output, "put", away)
    context.progress(1, 3, "steps")
    monkeypatch.setattr(context.output, "put", put)
    context.progress(2, 3, "steps")
    told = ground.store("root").get(f"{task.output.uri}progress.json")
    assert json.loads(told)["done"] == 2
