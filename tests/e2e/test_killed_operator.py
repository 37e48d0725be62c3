"""SIGKILL after a write that others can see: the run goes on as if nothing had been."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from demo import install, watch
from demo.checker.artifacts import of_stage, verify
from demo.ground import Ground
from e2e.conftest import clean, fresh_specs
from e2e.hosted import Killer, Write, hosted
from e2e.run import Pipeline, bucket_as
from e2e.specs import STEPS

STAGES = ["train", "sample", "cluster", "histogram", "select", "annotate", "card", "sft"]
MOST_SECONDS = 1800


def three(write: Write) -> str:
    """After the reservation, after the private Job, after the receipt."""
    if write.system == "store" and write.path.endswith("/ledger/000000000001.json"):
        return "reservation"
    if write.method == "POST" and write.path.endswith(f"/{install.CUSTODY}/jobs"):
        return "job"
    if write.system == "store" and write.path.endswith("/receipt.json"):
        return "receipt"
    return ""


def every(write: Write) -> str:
    """After each, once; a write that is repeated with the same content is the same."""
    digest = hashlib.sha256(write.body).hexdigest()[:12]
    return f"{write.system} {write.method} {write.path} {digest}"


@pytest.mark.parametrize(
    ("wanted", "least"),
    [
        pytest.param(three, 3, id="three"),
        pytest.param(every, 25, id="every", marks=pytest.mark.full),
    ],
)
def test_a_killed_operator_goes_on_where_it_was(
    ground: Ground, tmp_path: Path, wanted: Callable[[Write], str], least: int
) -> None:
    specs = fresh_specs(ground, "kill")
    run = Pipeline(ground, specs, bucket_as(ground, "root"))
    with hosted(ground, tmp_path, wanted) as killer:
        ground.tools.apply(specs.yaml("generator", "dataset", "alignment", "budget"), "all")
        run.resources = watch.until_ready(ground.tools, specs.expected, MOST_SECONDS)
    try:
        _as_if_nothing_had_been(run, killer, least)
    finally:
        clean(run)


def _as_if_nothing_had_been(run: Pipeline, killer: Killer, least: int) -> None:
    assert len(killer.kills) >= least, list(killer.kills)
    charges = list(run.replay().charges.values())
    assert [charge.mechanism["kind"] for charge in charges] == [
        "poisson-subsampled-gaussian",
        "discrete-gaussian",
    ]
    assert [(charge.state, charge.attempts) for charge in charges] == [("committed", 1)] * 2
    assert charges[0].steps == STEPS
    jobs, name = killer.jobs(), run.specs.name
    stages = [job.removeprefix(f"{name}-").split("-")[0] for job in jobs]
    assert sorted(stages) == sorted(STAGES), jobs
    pods = [
        pod["metadata"]["labels"]["palimpsest.dev/stage"]
        for namespace in (install.CUSTODY, install.TENANT)
        for pod in run.ground.tools.get(
            "pods", "-n", namespace, "-l", f"palimpsest.dev/name={name}"
        )["items"]
    ]
    assert sorted(pods) == sorted([*STAGES, "sample"]), "sampling has two shards"
    found = run.artifacts()
    assert sorted({artifact.stage for artifact in found}) == sorted(STAGES)
    assert verify(run.bucket, found) == []
    (selected,) = of_stage(found, "select", (install.TENANT, name))
    assert len(list(selected.lines(run.bucket, "selected.jsonl"))) == 24
