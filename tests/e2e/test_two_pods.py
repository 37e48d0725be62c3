"""A training in two pods on the real node: they find each other, and neither goes on alone."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

import pytest
from demo import install, watch
from demo.checker.artifacts import verify
from demo.ground import Ground
from e2e.conftest import clean, fresh_specs
from e2e.run import Pipeline, bucket_as
from e2e.specs import BLOCK, RESTARTS, STEPS

SECONDS = 600

pytestmark = pytest.mark.full


def test_two_pods_train_and_go_on_together_after_one_is_lost(ground: Ground) -> None:
    run = Pipeline(
        ground, replace(fresh_specs(ground, "pods"), replicas=2), bucket_as(ground, "root")
    )
    tools, name = ground.tools, run.specs.name
    try:
        tools.apply(run.specs.yaml("generator", "budget"), "all")
        _await_block(run)
        (service,) = tools.get("services", "-n", install.CUSTODY)["items"]
        (job,) = tools.get("jobs", "-n", install.CUSTODY, "-l", f"palimpsest.dev/name={name}")[
            "items"
        ]
        assert service["metadata"]["name"] == job["metadata"]["name"]
        second = f"palimpsest.dev/name={name},batch.kubernetes.io/job-completion-index=1"
        lost = tools.kubectl("-n", install.CUSTODY, "delete", "pod", "-l", second, "--wait=false")
        assert "deleted" in lost.out, lost.err

        expected = {("PrivacyBudget", name), ("PrivateGenerator", name)}
        run.resources = watch.until_ready(tools, expected, SECONDS)
        (training,) = run.replay().charges.values()
        assert (training.state, training.attempts) == ("committed", 2)
        assert STEPS <= training.steps <= STEPS + RESTARTS * BLOCK
        assert training.cost <= training.reserve["cost"]
        assert verify(run.bucket, run.artifacts()) == []
    finally:
        clean(run)


def _await_block(run: Pipeline) -> None:
    """Until both pods are in the first block."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        with suppress(Exception):
            if any(charge.steps >= BLOCK for charge in run.replay().charges.values()):
                return
        time.sleep(0.2)
    raise AssertionError("no block of training was seen in 240 s")
