"""Pods, nodes and stores that go while private records are read: the run ends all the same."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from demo import install, watch
from demo.checker.artifacts import verify
from demo.ground import Ground
from e2e.conftest import PATIENCE_SECONDS, await_, clean, fresh_specs, reason, state, training
from e2e.run import Pipeline, bucket_as
from e2e.specs import BLOCK, RESTARTS, STEPS
from processes import signal_pod

TRAINING = "palimpsest.dev/stage=train"

pytestmark = pytest.mark.full


def _delete_pod(run: Pipeline) -> None:
    selector = ("-l", f"{TRAINING},palimpsest.dev/name={run.specs.name}")
    done = run.ground.tools.kubectl("-n", install.CUSTODY, "delete", "pod", *selector)
    assert "deleted" in done.out, done.err


def _drain(run: Pipeline) -> None:
    """Evict what the drain of the one node evicts, and bring the node back."""
    tools = run.ground.tools
    (node,) = (item["metadata"]["name"] for item in tools.get("nodes")["items"])
    selector = f"--pod-selector={TRAINING}"
    options = ("--ignore-daemonsets", "--delete-emptydir-data", "--timeout=100s")
    done = tools.kubectl("drain", node, selector, *options)
    try:
        assert "evicted" in done.out, done.err
    finally:
        tools.kubectl("uncordon", node)


def _stop_the_store(run: Pipeline) -> None:
    tools = run.ground.tools
    scale = ("-n", "store", "scale", "deployment/store")
    tools.kubectl(*scale, "--replicas=0")
    time.sleep(60)
    tools.kubectl(*scale, "--replicas=1")
    done = tools.kubectl("-n", "store", "rollout", "status", "deployment/store", "--timeout=120s")
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(_delete_pod, id="deleted-pod"),
        pytest.param(_drain, id="drained-node"),
        pytest.param(_stop_the_store, id="stopped-store"),
    ],
)
def test_training_goes_on_after(ground: Ground, fault: Callable[[Pipeline], None]) -> None:
    run = Pipeline(ground, fresh_specs(ground, "bad"), bucket_as(ground, "root"))
    try:
        ground.tools.apply(run.specs.yaml("generator", "dataset", "alignment", "budget"), "all")
        await_(lambda: training(run), "a block of training")
        fault(run)
        run.resources = watch.until_ready(ground.tools, run.specs.expected, PATIENCE_SECONDS)
        trained, histogram = run.replay().charges.values()
        assert (trained.state, histogram.state) == ("committed", "committed")
        assert trained.attempts == 2
        assert STEPS <= trained.steps <= STEPS + RESTARTS * BLOCK
        assert trained.cost <= trained.reserve["cost"]
        assert verify(run.bucket, run.artifacts()) == []
    finally:
        clean(run)


def test_sampling_goes_on_after_a_pod_filled_its_disk(ground: Ground) -> None:
    """The kubelet evicts the pod, and the Job has another one for the shard."""
    specs = fresh_specs(ground, "full")
    run = Pipeline(ground, specs, bucket_as(ground, "root"))
    data = json.loads(specs.yaml("dataset"))
    data["spec"]["sampling"] |= {"count": 5_000, "shards": 1, "batchSize": 64}
    data["spec"]["compute"] = {"sample": {"scratch": "64Mi"}}
    try:
        ground.tools.apply(
            specs.yaml("generator", "budget") + "\n---\n" + json.dumps(data), "all but a model"
        )
        await_(lambda: _fill_scratch(run), "a sample pod to fill")
        await_(lambda: state(run, "sample") == "Succeeded", "the sampling")
        evicted, _ = _sample_pods(run)
        assert evicted["status"]["reason"] == "Evicted"
        assert 'volume "scratch" exceeds the limit' in evicted["status"]["message"]
        assert reason(run, "SyntheticDataset") != "OutOfResources"
    finally:
        clean(run)


def _sample_pods(run: Pipeline) -> list[dict[str, Any]]:
    selector = f"palimpsest.dev/stage=sample,palimpsest.dev/name={run.specs.name}"
    pods = run.ground.tools.get("pods", "-n", install.TENANT, "-l", selector)["items"]
    return sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))


def _fill_scratch(run: Pipeline) -> bool:
    running = [pod for pod in _sample_pods(run) if pod["status"]["phase"] == "Running"]
    if not running:
        return False
    fill = ("sh", "-c", "head -c 100M /dev/zero > /scratch/fill")
    name = running[0]["metadata"]["name"]
    # The kubelet measures volumes once a minute: the pod must still be there.
    if not signal_pod(name, signal.SIGSTOP):
        return False
    return run.ground.tools.kubectl("-n", install.TENANT, "exec", name, "--", *fill).code == 0
