"""Both images replaced by helm in the middle of a training: nothing is lost, nothing paid twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cluster import images, lifecycle, state
from cluster.runtime import Runtime
from demo import install, watch
from demo.ground import Ground, Images
from e2e.conftest import PATIENCE_SECONDS, await_, clean, fresh_specs, training
from e2e.run import Pipeline, bucket_as
from e2e.specs import STEPS

pytestmark = pytest.mark.full


def next_version(ground: Ground) -> Ground:
    """The same programs in images of another day, and so of other digests, which the node has."""
    cluster = state.load()
    assert cluster is not None
    pid = lifecycle.running(cluster)
    assert pid is not None
    runtime = Runtime(pid, cluster.runtime)
    built = {}
    for name in images.NAMES:
        layout = images.build(name, images.Build(created="2026-01-01T00:00:00Z"))
        runtime.add(layout)
        built[name] = layout.reference
    return replace(ground, images=Images(**built))


def pods(run: Pipeline, namespace: str, stage: str) -> dict[str, str]:
    """UID -> image of a stage's pods."""
    selector = f"palimpsest.dev/name={run.specs.name},palimpsest.dev/stage={stage}"
    items: list[dict[str, Any]] = run.ground.tools.get("pods", "-n", namespace, "-l", selector)[
        "items"
    ]
    return {item["metadata"]["uid"]: item["spec"]["containers"][0]["image"] for item in items}


def test_an_upgrade_in_mid_training_loses_nothing(ground: Ground) -> None:
    later = next_version(ground)
    assert later.images.stage != ground.images.stage
    run = Pipeline(ground, fresh_specs(ground, "upgrade"), bucket_as(ground, "root"))
    try:
        ground.tools.apply(run.specs.yaml("generator", "dataset", "budget"), "all")
        await_(lambda: training(run, blocks=2), "two blocks of training")
        before = pods(run, install.CUSTODY, "train")
        install.install(later)
        (charge,) = run.replay().charges.values()
        assert charge.state == "started", "the upgrade came too late to tell anything"
        wanted = run.specs.expected - {("AlignmentRun", run.specs.name)}
        watch.until_ready(ground.tools, wanted, PATIENCE_SECONDS)

        assert pods(run, install.CUSTODY, "train") == before
        assert set(before.values()) == {ground.images.stage}
        training_charge, histogram = run.replay().charges.values()
        assert (training_charge.state, training_charge.attempts) == ("committed", 1)
        assert training_charge.steps == STEPS
        assert histogram.state == "committed"
        assert set(pods(run, install.CUSTODY, "histogram").values()) == {later.images.stage}
        assert set(pods(run, install.TENANT, "sample").values()) == {later.images.stage}
    finally:
        clean(run)
        install.install(ground)
