"""An annotating endpoint: its task, what its pod is given, what its failure is told as."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import samples
from palimpsest.api.budget import PrivacyBudgetSpec
from palimpsest.api.common import ArtifactRef, Compute
from palimpsest.api.dataset import SyntheticDatasetSpec
from palimpsest.api.generator import PrivateGeneratorSpec
from palimpsest.api.outcomes import Outcome
from palimpsest.api.task import AnnotateParameters, EndpointInput
from palimpsest.reconcile import jobs, stages
from palimpsest.reconcile.observed import Meta, Pod, Settings
from palimpsest.reconcile.policies import attempts
from palimpsest.reconcile.tasks import DatasetTasks, StagePlan
from pydantic import ValidationError
from unit.reconcile.failed import NOW, failed

META = Meta("SyntheticDataset", "research", "questions", "uid-1", 1, deleting=False)
SETTINGS = Settings(stage_image="stage", cluster="c1")
SELECTED = ArtifactRef(uri="s3://outputs/questions/select/manifest.json", digest=samples.DIGEST)
ENDPOINT = {"baseURL": "https://api.example.com/v1", "model": "large-1", "secretName": "annotator"}


def planned(endpoint: dict[str, Any], **annotation: Any) -> StagePlan:
    manifest = samples.dataset(annotation={"endpoint": endpoint, **annotation})
    tasks = DatasetTasks(
        META,
        SyntheticDatasetSpec.model_validate(manifest["spec"]),
        PrivateGeneratorSpec.model_validate(samples.generator()["spec"]),
        PrivacyBudgetSpec.model_validate(samples.budget()["spec"]),
    )
    return tasks.annotate((SELECTED,))


def test_what_is_asked_is_an_input_and_how_is_not() -> None:
    plan = planned(ENDPOINT | {"requestsPerMinute": 60, "prices": {"input": "1", "output": "2"}})
    asked = EndpointInput(base_url="https://api.example.com/v1", model="large-1")
    assert plan.task.inputs["endpoint"] == asked
    assert "model" not in plan.task.inputs
    access = plan.task.endpoints["endpoint"]
    assert (access.secret, access.concurrency, access.requests_per_minute) == ("annotator", 8, 60)
    assert access.timeout_seconds < access.patience_seconds


@pytest.mark.parametrize(
    "change",
    [
        {"secretName": "other"},
        {"concurrency": 64},
        {"timeoutSeconds": 10},
        {"patienceSeconds": 5000},
        {"prices": {"input": "1", "output": "2"}},
    ],
)
def test_how_an_endpoint_is_asked_makes_no_other_work(change: dict[str, Any]) -> None:
    assert planned(ENDPOINT | change).digest == planned(ENDPOINT).digest


@pytest.mark.parametrize("change", [{"baseURL": "https://other/v1"}, {"model": "small"}])
def test_what_is_asked_makes_other_work(change: dict[str, Any]) -> None:
    assert planned(ENDPOINT | change).digest != planned(ENDPOINT).digest


@pytest.mark.parametrize(
    ("annotation", "temperature"),
    [({}, None), ({"answers": 2}, "1.0"), ({"temperature": "0.5"}, "0.5")],
)
def test_several_answers_are_sampled(annotation: dict[str, Any], temperature: str | None) -> None:
    parameters = planned(ENDPOINT, **annotation).task.parameters
    assert isinstance(parameters, AnnotateParameters)
    assert parameters.temperature == temperature


def test_the_key_is_mounted_as_a_file_and_a_server_without_keys_needs_none() -> None:
    def secrets(endpoint: dict[str, Any]) -> dict[str, str]:
        made = jobs.manifest(
            META, planned(endpoint).task, samples.DIGEST, Compute(), SETTINGS, None, 1
        )
        pod = made["spec"]["template"]["spec"]
        assert "secretKeyRef" not in str(pod)
        names = {
            each["name"]: each["secret"]["secretName"]
            for each in pod["volumes"]
            if "secret" in each
        }
        mounts = pod["containers"][0]["volumeMounts"]
        return {names[each["name"]]: each["mountPath"] for each in mounts if each["name"] in names}

    root = "/var/run/secrets/palimpsest/stores"
    store = {"store": f"{root}/store"}
    assert secrets(ENDPOINT) == store | {"annotator": f"{root}/annotator"}
    keyless = {name: value for name, value in ENDPOINT.items() if name != "secretName"}
    assert secrets(keyless) == store


@pytest.mark.parametrize("outcome", [each for each in Outcome if each.of_the_endpoint])
def test_a_failure_names_the_endpoint_the_model_and_the_secret(outcome: Outcome) -> None:
    plan = planned(ENDPOINT)
    job = failed(stage="annotate", pods=(Pod("p", "Failed", outcome, None),), compute="given")
    step = stages.retried(plan, job, attempts.retry_at(job, "given"), NOW)
    assert step.verdict.reason == outcome.value
    named = "(https://api.example.com/v1, model large-1, Secret annotator)"
    assert named in step.verdict.message
    final = outcome in (Outcome.ENDPOINT_NOT_FOUND, Outcome.ENDPOINT_REFUSED)
    assert step.verdict.state == ("Stalled" if final else "Reconciling")
    # The longest names there can be still fit into a status.
    longest = planned({"baseURL": f"https://h/{'p' * 243}", "model": "m" * 253})
    for at in (None, NOW):
        assert len(stages.retried(longest, replace(job), at, NOW).status.message) <= 512


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        ({}, "exactly one of model"),
        ({"endpoint": ENDPOINT, "model": samples.MODEL}, "exactly one of model"),
        ({"endpoint": {**ENDPOINT, "timeoutSeconds": 901}}, "patienceSeconds"),
        ({"endpoint": {**ENDPOINT, "baseURL": "https://key@api.example.com"}}, "baseURL"),
        (
            {
                "endpoint": {
                    **ENDPOINT,
                    "caBundle": "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----",
                }
            },
            "no certificate",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_the_operator_too(annotation: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SyntheticDatasetSpec.model_validate(samples.dataset(annotation=annotation)["spec"])
