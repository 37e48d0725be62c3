"""What a stage outside custody writes: JSON of the documented fields, by resource or trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cluster.fixtures import ObjectStore
from palimpsest.api.outcomes import MESSAGES, Outcome
from palimpsest.api.task import TRACE_VARIABLE, UID_VARIABLE, PruneParameters
from unit.docs.test_logs import listed
from unit.stage.ground import Ground


@pytest.fixture
def ground(object_store: ObjectStore, tmp_path: Path) -> Ground:
    return Ground.on(object_store, tmp_path, tmp_path.name.replace("_", "-"), 100)


def test_every_line_says_whose_it_is(ground: Ground) -> None:
    pool = ground.push_artifact({"instructions.jsonl": b"{}"})
    elsewhere = pool.model_copy(update={"store": "root"})
    task = ground.task(PruneParameters(keep=[]), {"pool": elsewhere}, "outputs")
    trace = "0123456789abcdef" * 2
    ended = ground.run(task, more={UID_VARIABLE: "uid-1", TRACE_VARIABLE: trace})
    assert ended.outcome == "InvalidTask", ended.said
    of = task.subject
    about = {
        "kind": of.kind,
        "namespace": of.namespace,
        "name": of.name,
        "uid": "uid-1",
        "trace_id": trace,
        "stage": "prune",
    }
    *lines, last = [json.loads(line) for line in ended.said.splitlines()]
    assert last == {"outcome": "InvalidTask", "message": MESSAGES[Outcome.INVALID_TASK]}
    assert lines
    for line in lines:
        assert about.items() <= line.items()
        assert line.keys() <= listed()
