"""Pods, nodes and stores that go while private records are read: the run ends all the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from demo import install, watch
from demo.checker.artifacts import verify
from demo.ground import Ground
from e2e.conftest import clean, fresh_specs
from e2e.run import Pipeline, bucket_as
from e2e.specs import BLOCK, RESTARTS, STEPS

SECONDS = 600
# Most steps of one attempt are still to come when the fault comes.
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
        _await_block(run)
        fault(run)
        run.resources = watch.until_ready(ground.tools, run.specs.expected, SECONDS)
        training, histogram = run.replay().charges.values()
        assert (training.state, histogram.state) == ("committed", "committed")
        assert training.attempts == 2
        assert STEPS <= training.steps <= STEPS + RESTARTS * BLOCK
        assert training.cost <= training.reserve["cost"]
        assert verify(run.bucket, run.artifacts()) == []
    finally:
        clean(run)


def _await_block(run: Pipeline) -> None:
    """Until the training has declared its first block."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        with suppress(Exception):
            if any(charge.steps >= BLOCK for charge in run.replay().charges.values()):
                return
        time.sleep(0.2)
    raise AssertionError("no block of training was seen in 180 s")
