"""A training in two pods on the real node: they find each other, and neither goes on alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from demo import install, watch
from demo.checker.artifacts import verify
from demo.ground import Ground
from e2e.conftest import PATIENCE_SECONDS, await_, clean, fresh_specs, training
from e2e.run import Pipeline, bucket_as
from e2e.specs import BLOCK, RESTARTS, STEPS

pytestmark = pytest.mark.full


def test_two_pods_train_and_go_on_together_after_one_is_lost(ground: Ground) -> None:
    run = Pipeline(
        ground, replace(fresh_specs(ground, "pods"), replicas=2), bucket_as(ground, "root")
    )
    tools, name = ground.tools, run.specs.name
    try:
        tools.apply(run.specs.yaml("generator", "budget"), "all")
        await_(lambda: training(run), "a block of training")
        (service,) = tools.get("services", "-n", install.CUSTODY)["items"]
        (job,) = tools.get("jobs", "-n", install.CUSTODY, "-l", f"palimpsest.dev/name={name}")[
            "items"
        ]
        assert service["metadata"]["name"] == job["metadata"]["name"]
        second = f"palimpsest.dev/name={name},batch.kubernetes.io/job-completion-index=1"
        lost = tools.kubectl("-n", install.CUSTODY, "delete", "pod", "-l", second, "--wait=false")
        assert "deleted" in lost.out, lost.err

        expected = {("PrivacyBudget", name), ("PrivateGenerator", name)}
        run.resources = watch.until_ready(tools, expected, PATIENCE_SECONDS)
        (charge,) = run.replay().charges.values()
        assert (charge.state, charge.attempts) == ("committed", 2)
        assert STEPS <= charge.steps <= STEPS + RESTARTS * BLOCK
        assert charge.cost <= charge.reserve["cost"]
        assert verify(run.bucket, run.artifacts()) == []
    finally:
        clean(run)
