"""The restore drill of docs/how-to/disaster.md: the cluster is lost, Git and the bucket are there.

Its name comes after the other modules': what they made on the cluster is gone then.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from cluster import lifecycle, state
from demo import install, own_cluster, verification, watch
from demo.ground import Ground
from demo.kubectl import Tools
from e2e.conftest import PATIENCE_SECONDS, await_, clean, fresh_specs, training
from e2e.run import Pipeline, bucket_as
from e2e.specs import BLOCK, RESTARTS, STEPS
from integration.clusters.worlds import SHOWN

pytestmark = pytest.mark.full

EVERYTHING = ("budget", "generator", "dataset", "alignment", "preference", "reinforcement")


def _budget(tools: Tools, name: str) -> dict[str, Any]:
    """What its status shows of the journal."""
    status = tools.get("privacybudget", name)["status"]
    return {key: status.get(key) for key in SHOWN}


def _receipt_key(tools: Tools) -> str:
    """The Secret as one saves it, labels and annotations included."""
    found = tools.get("secret", "palimpsest-receipt-key", "-n", install.SYSTEM)
    meta = {key: found["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}
    return json.dumps({**found, "metadata": meta})


def test_a_cluster_is_rebuilt_from_manifests_and_the_bucket(pipeline: Pipeline) -> None:
    running = Pipeline(
        pipeline.ground, fresh_specs(pipeline.ground, "lost"), bucket_as(pipeline.ground, "root")
    )
    tools, done = pipeline.ground.tools, pipeline.specs
    tools.apply(running.specs.yaml("budget", "generator"), "one more")
    await_(lambda: training(running, blocks=2), "two blocks of its training")
    (before,) = running.replay().charges.values()
    shown, key = _budget(tools, done.name), _receipt_key(tools)
    journal = pipeline.replay()
    artifacts = {artifact.digest for artifact in pipeline.artifacts()}

    with state.command_lock():
        lifecycle.renew()
    ground = own_cluster.start()
    assert not tools.kubectl("get", "namespace", install.TENANT, "-o", "name").out
    # The name under which the lost cluster reserved stands in every reservation.
    (cluster,) = {charge.reserve["subject"]["cluster"] for charge in journal.charges.values()}
    install.namespaces(tools)
    tools.apply(key, "the receipts' key")
    install.install(ground, cluster)
    tools.apply(
        done.yaml(*EVERYTHING) + "\n---\n" + running.specs.yaml("generator", "budget"), "all"
    )
    wanted = done.every_method | {
        (kind, running.specs.name) for kind in ("PrivacyBudget", "PrivateGenerator")
    }
    watch.until_ready(tools, wanted, PATIENCE_SECONDS)
    try:
        _nothing_was_forgotten(pipeline, ground, shown, journal.digests, artifacts)
        (after,) = running.replay().charges.values()
        assert (after.state, after.attempts) == ("committed", before.attempts + 1)
        assert STEPS <= after.steps <= STEPS + RESTARTS * BLOCK
        assert "sound" in verification.run(running.specs.name, ground)
    finally:
        clean(running)
        install.install(ground)


def _nothing_was_forgotten(
    pipeline: Pipeline,
    ground: Ground,
    shown: dict[str, Any],
    entries: Any,
    artifacts: set[str],
) -> None:
    name = pipeline.specs.name
    assert pipeline.replay().digests == entries
    assert {artifact.digest for artifact in pipeline.artifacts()} == artifacts
    assert _budget(ground.tools, name) == shown
    mine = f"palimpsest.dev/name={name}"
    assert not ground.tools.get("jobs", "-A", "-l", mine)["items"]
    head = f"{shown['head']['sequence']}:{shown['head']['digest']}"
    said = verification.run(name, ground, "--head", head)
    assert f"{name}: sound" in said
    assert "2 signed receipts" in said
