"""The chart taken away while resources live, and put back: nothing hangs, nothing is forgotten."""

from __future__ import annotations

import json

from demo import install
from demo.ground import Ground
from e2e.conftest import await_, clean, fresh_specs, reason
from e2e.run import Pipeline, bucket_as

RESOURCES = "privategenerators,syntheticdatasets,alignmentruns"


def test_the_chart_can_go_before_its_resources(ground: Ground) -> None:
    specs = fresh_specs(ground, "away")
    run = Pipeline(ground, specs, bucket_as(ground, "root"))
    tools = ground.tools
    generator = json.loads(specs.yaml("generator"))
    # Paid for, and waiting for a node that takes it.
    generator["spec"]["compute"] = {"resources": {"requests": {"cpu": "500"}}}
    try:
        tools.apply(specs.yaml("budget") + "\n---\n" + json.dumps(generator), "the generator")
        await_(
            lambda: reason(run, "PrivateGenerator") == "Unschedulable",
            "the reservation and its pod",
        )
        gone = tools.helm(
            *("uninstall", install.RELEASE, "--namespace", install.SYSTEM),
            *("--wait", "--timeout", "4m"),
            timeout=300,
        )
        assert gone.code == 0, gone.err
        left = tools.get(RESOURCES, "-A")["items"]
        assert specs.name in {item["metadata"]["name"] for item in left}
        assert not any(item["metadata"].get("finalizers") for item in left)
        assert not tools.get("jobs,pods", "-n", install.SYSTEM)["items"]
        deleted = tools.kubectl(
            *("-n", install.TENANT, "delete", "privategenerator", specs.name, "--timeout=20s")
        )
        assert deleted.code == 0, deleted.err
    finally:
        install.install(ground)
    try:
        tools.apply(json.dumps(generator), "the generator again")
        await_(lambda: reason(run, "PrivateGenerator") == "Unschedulable", "the charge found again")
        assert [charge.state for charge in run.replay().charges.values()] == ["reserved"]
    finally:
        clean(run)
    assert [charge.state for charge in run.replay().charges.values()] == ["released"]
