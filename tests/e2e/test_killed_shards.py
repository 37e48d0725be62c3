"""Sample pods that go at random points: the pool is whole, once."""

from __future__ import annotations

import json
import random
import secrets
import time
from functools import partial

import pytest
from demo import install
from demo.checker.artifacts import verify
from demo.ground import Ground
from e2e.conftest import await_, clean, fresh_specs
from e2e.run import Pipeline, bucket_as

COUNT, SHARDS = 3_000, 2


@pytest.mark.parametrize(
    "rounds",
    [pytest.param(1, id="2-kills"), pytest.param(10, id="20-kills", marks=pytest.mark.full)],
)
def test_the_pool_is_whole_whenever_its_shards_are_killed(ground: Ground, rounds: int) -> None:
    run = Pipeline(ground, fresh_specs(ground, "shards"), bucket_as(ground, "root"))
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    names = [f"{run.specs.name}-{number}" for number in range(rounds)]
    try:
        ground.tools.apply(run.specs.yaml("generator", "budget"), "the generator")
        for name in names:
            ground.tools.apply(json.dumps(_pool(run, name)), name)
            for shard in range(SHARDS):
                _kill(run, name, shard, chance.uniform(0, 8))
            await_(partial(_ready, run, name), f"{name} to be Ready")
            _check(run, name)
        assert verify(run.bucket, run.artifacts()) == []
    finally:
        for name in names:
            delete = ("delete", "syntheticdataset", name, "--ignore-not-found", "--timeout=60s")
            ground.tools.kubectl("-n", install.TENANT, *delete)
        clean(run)


def _pool(run: Pipeline, name: str) -> dict[str, object]:
    made = json.loads(run.specs.yaml("dataset"))
    made["metadata"]["name"] = name
    made["spec"]["sampling"] |= {"count": COUNT, "shards": SHARDS, "batchSize": 16}
    del made["spec"]["resampling"], made["spec"]["annotation"]
    made["spec"]["output"]["uri"] = f"{run.specs.outputs}{name}/"
    return dict(made)


def _kill(run: Pipeline, name: str, shard: int, after: float) -> None:
    """Delete the shard's pod, at once, so long after it began to run, if it is not done by then."""
    selector = (
        f"palimpsest.dev/stage=sample,palimpsest.dev/name={name},"
        f"batch.kubernetes.io/job-completion-index={shard}"
    )
    place = ("-n", install.TENANT, "-l", selector)

    def begun() -> bool:
        phases = [pod["status"]["phase"] for pod in run.ground.tools.get("pods", *place)["items"]]
        return bool({"Running", "Succeeded"} & set(phases))

    await_(begun, f"a pod of shard {shard} of {name}")
    time.sleep(after)
    run.ground.tools.kubectl("delete", "pod", *place, "--grace-period=0", "--force")


def _ready(run: Pipeline, name: str) -> bool:
    found = run.ground.tools.get("syntheticdataset", name, "-n", install.TENANT)
    summary = found.get("status", {}).get("summary", "")
    assert "Failed" not in summary, found["status"]
    return bool(summary == "Ready")


def _check(run: Pipeline, name: str) -> None:
    mine = [one for one in run.artifacts() if one.subject[2] == name]
    pool = sorted((one for one in mine if one.stage == "sample"), key=lambda one: one.prefix)
    # One manifest a shard.
    assert [one.prefix.rstrip("/").rsplit("/", 1)[-1] for one in pool] == ["0", "1"]
    ids = [row["id"] for one in pool for row in one.lines(run.bucket, "instructions.jsonl")]
    each = COUNT // SHARDS
    assert ids == [f"{shard}-{index}" for shard in range(SHARDS) for index in range(each)]
    (card,) = (one for one in mine if one.stage == "card")
    assert [row["id"] for row in card.lines(run.bucket, "data.jsonl")] == ids
    left = [uri for one in pool for uri in run.bucket.list(f"{one.prefix}attempts/parts/")]
    assert left == []
