"""A model that did not fit, from the pod's word to the condition: outside custody, in numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest
import samples
from palimpsest.api.alignment import AlignmentRunSpec
from palimpsest.api.budget import PrivacyBudgetSpec
from palimpsest.api.common import ArtifactRef, Location
from palimpsest.api.dataset import SyntheticDatasetSpec
from palimpsest.api.generator import PrivateGeneratorSpec
from palimpsest.api.outcomes import MESSAGES, Outcome
from palimpsest.api.shortage import Shortage
from palimpsest.reconcile import jobs, stages, tasks
from palimpsest.reconcile.observed import Meta
from palimpsest.reconcile.tasks import DatasetTasks, StagePlan
from unit.reconcile.failed import NOW, failed

GIB = 2**30
SHORT = {"what": "Memory", "model": "base", "parameters": 7 * GIB, "needs": 14 * GIB, "has": GIB}
ONE = ArtifactRef(uri="s3://outputs/questions/card-1/manifest.json", digest=samples.DIGEST)
GENERATOR = PrivateGeneratorSpec.model_validate(samples.generator()["spec"])
BUDGET = PrivacyBudgetSpec.model_validate(samples.budget()["spec"])


def meta(kind: str) -> Meta:
    return Meta(kind, "research", "one", "uid-1", 1, deleting=False)


def pod(**told: Any) -> dict[str, Any]:
    """A pod as the API server shows it, ended with such a message."""
    message = json.dumps({"outcome": "OutOfResources", "message": "...", **told})
    state = {"terminated": {"exitCode": 71, "message": message}}
    return {
        "metadata": {"name": "p"},
        "status": {"phase": "Failed", "containerStatuses": [{"state": state}]},
    }


def said(plan: StagePlan, **told: Any) -> str:
    job = failed(stage=plan.stage, pods=(jobs.observe_pod(pod(**told)),))
    step = stages.retried(plan, job, None, NOW)
    assert step.verdict.reason == "OutOfResources"
    assert len(step.status.message) <= 512
    return step.verdict.message


def annotate() -> StagePlan:
    dataset = SyntheticDatasetSpec.model_validate(samples.dataset()["spec"])
    return DatasetTasks(meta("SyntheticDataset"), dataset, GENERATOR, BUDGET).annotate((ONE,))


def align() -> StagePlan:
    spec = AlignmentRunSpec.model_validate(samples.alignment()["spec"])
    origin = Location.model_validate({"uri": "s3://outputs/questions/", "storage": samples.STORAGE})
    return tasks.align(meta("AlignmentRun"), spec, ONE, origin, "(3, 1e-5)-DP")


@pytest.mark.parametrize(
    ("plan", "field"),
    [(annotate(), "spec.compute.annotate (left out: default)"), (align(), "spec.compute")],
)
def test_the_condition_says_what_is_needed_and_where_to_give_it(
    plan: StagePlan, field: str
) -> None:
    assert said(plan, shortage=SHORT) == (
        "The base model of 7,516,192,768 parameters needs at least 14.00 GiB of memory, the pod "
        f"has 1.00 GiB: raise resources.limits.memory of {field} to 14Gi or more, on a node that "
        "has as much."
    )


def test_of_a_stage_in_custody_only_the_fixed_message_is_told() -> None:
    plan = tasks.train(meta("PrivateGenerator"), GENERATOR, BUDGET, "1.0")
    assert plan.task.charge is not None
    assert said(plan, shortage=SHORT) == MESSAGES[Outcome.OUT_OF_RESOURCES]


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"shortage": "patient zero"},
        {"shortage": {**SHORT, "model": "patient zero"}},
        {"shortage": {**SHORT, "needs": "many"}},
        {"shortage": {**SHORT, "needs": 2**60}},
        {"shortage": {**SHORT, "more": 1}},
    ],
)
def test_nothing_but_numbers_and_known_words_is_read(told: dict[str, Any]) -> None:
    assert jobs.observe_pod(pod(**told)).shortage is None
    assert said(align(), **told) == MESSAGES[Outcome.OUT_OF_RESOURCES]


def test_a_shortage_beside_another_outcome_is_none() -> None:
    lie = pod(shortage=SHORT, outcome="ModelUnsuitable")
    job = failed(pods=(jobs.observe_pod(lie),))
    assert job.shortage is None
    assert failed(pods=(jobs.observe_pod(pod(shortage=SHORT)),)).shortage == Shortage(**SHORT)
