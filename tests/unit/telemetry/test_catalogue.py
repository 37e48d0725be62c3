"""Every metric is declared with what its page says, and no name can make series without end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from palimpsest.ledger.entries import Basis
from palimpsest.ledger.state import Status
from palimpsest.privacy.mechanisms import DiscreteGaussian, PoissonSubsampledGaussian
from palimpsest.reconcile.charges import STATES
from palimpsest.reconcile.conditions import STAGE_CONDITIONS
from palimpsest.reconcile.plan import LedgerAction
from palimpsest.telemetry import budgets, stages
from palimpsest.telemetry.catalogue import STAGES, Metric
from palimpsest.telemetry.reference import declared, render
from prometheus_client import REGISTRY

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
METRICS = declared()
# What the process itself and Python show.
OTHERS = ("process_", "python_")
each = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)


@each
def test_a_metric_says_what_it_is(metric: Metric) -> None:
    assert re.fullmatch(r"palimpsest_[a-z_]+", metric.name)
    assert metric.help.endswith(".")
    assert metric.unit
    assert (metric.type == "counter") == metric.name.endswith("_total")
    assert (metric.unit == "seconds") == metric.name.endswith("_seconds")
    assert (metric.type == "histogram") == bool(metric.buckets)
    for label, values in metric.labels.items():
        assert re.fullmatch(r"[a-z]+", label)
        assert values, "say what the label may be"


@each
def test_only_gauges_name_objects(metric: Metric) -> None:
    if metric.type != "gauge":
        free = [label for label, values in metric.labels.items() if isinstance(values, str)]
        assert free == [], "a counter's and a histogram's labels are closed sets"


def test_what_is_served_is_what_is_declared() -> None:
    served = {
        family.name: family for family in REGISTRY.collect() if not family.name.startswith(OTHERS)
    }
    told = {metric.name.removesuffix("_total"): metric for metric in METRICS}
    assert set(served) == set(told)
    for name, family in served.items():
        metric = told[name]
        assert (family.type, family.documentation) == (metric.type, metric.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels)
            for label, values in metric.labels.items():
                assert isinstance(values, str) or sample.labels[label] in values


def test_the_page_is_the_generated_one() -> None:
    assert PAGE.read_text() == render(), "run `make crds`"


def test_the_closed_sets_are_those_of_the_code() -> None:
    assert set(STAGES) == set(STAGE_CONDITIONS)
    assert set(budgets.OUTCOMES) == set(STATES) == set(get_args(Status))
    assert set(budgets.BASES) == set(get_args(Basis))
    kinds = (PoissonSubsampledGaussian, DiscreteGaussian)
    assert tuple(kind.model_fields["kind"].default for kind in kinds) == budgets.MECHANISMS
    operations = {action.__name__.lower() for action in get_args(LedgerAction)}
    (asked,) = [metric for metric in METRICS if metric.name == "palimpsest_ledger_operations_total"]
    assert operations == set(asked.labels["operation"])


@pytest.mark.parametrize(
    ("stage", "seconds", "told"),
    [
        ("sft", 61.5, 61.5),
        ("train", 0.0, 60),
        ("train", 61.5, 300),
        ("histogram", 60, 60),
        ("train", 3 * 86400 + 1, 6 * 86400),
    ],
)
def test_how_long_a_private_stage_took_is_told_coarsely(
    stage: str, seconds: float, told: float
) -> None:
    assert stages.coarse(stage, seconds) == told
