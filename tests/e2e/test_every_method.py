"""Every method of alignment with a real language model, on a data set of the real pipeline's."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from cluster import parts
from demo import install, watch
from demo.checker.artifacts import find, of_stage
from e2e.conftest import PATIENCE_SECONDS, delete
from e2e.run import Pipeline
from e2e.specs import Specs
from e2e.test_watched_pipeline import SECONDS
from prometheus import Prometheus

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def aligned(pipeline: Pipeline) -> Iterator[Specs]:
    specs = replace(pipeline.specs, model=parts.smollm2(), suffix="-real")
    tools = pipeline.ground.tools
    try:
        tools.apply(specs.yaml("alignment", "preference", "reinforcement"), "the runs")
        watch.until_ready(tools, specs.aligned, PATIENCE_SECONDS)
        yield specs
    finally:
        delete(tools, ("alignmentrun", *specs.runs.values()))


@pytest.mark.parametrize(("stage", "curve"), [("sft", "loss"), ("dpo", "loss"), ("rlhf", "steps")])
def test_a_real_model_was_aligned(
    pipeline: Pipeline, aligned: Specs, stage: str, curve: str
) -> None:
    found = find(pipeline.bucket, [aligned.outputs])
    (published,) = of_stage(found, stage, (install.TENANT, aligned.runs[stage]))
    told: list[dict[str, Any]] = json.loads(published.read(pipeline.bucket, "training.json"))[curve]
    assert told
    assert all(math.isfinite(step["loss"]) for step in told)
    config = "adapter_config.json" if stage == "dpo" else "config.json"
    assert published.entry(config)["size"] > 0


def test_its_figures_were_seen_while_it_ran(prometheus: Prometheus, aligned: Specs) -> None:
    names = "|".join(aligned.runs.values())
    told = prometheus.series(f'palimpsest_alignment_figure{{name=~"{names}"}}', SECONDS)
    assert any(len(set(series)) > 1 for series in told)
