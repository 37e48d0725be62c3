"""What a stage's pod is given for its models, in custody and outside."""

from __future__ import annotations

from typing import Any

import pytest
import samples
from palimpsest.api.alignment import AlignmentRunSpec
from palimpsest.api.budget import Custodian
from palimpsest.api.common import ArtifactRef, Compute, Location
from palimpsest.api.dataset import StageCompute
from palimpsest.api.task import (
    ClaimModelInput,
    HubModelInput,
    ModelInput,
    Task,
    WebIdentity,
    canonical_json,
)
from palimpsest.reconcile import jobs, tasks
from palimpsest.reconcile.observed import Meta, Settings
from palimpsest.reconcile.tasks import StagePlan
from pydantic import ValidationError

META = Meta("AlignmentRun", "research", "assistant", "uid-1", 1, deleting=False)
SETTINGS = Settings(stage_image="stage", cluster="c1", hub_endpoint="https://hub.example.com")
DATASET = ArtifactRef(uri="s3://outputs/questions/manifest.json", digest=samples.DIGEST)
ORIGIN = Location.model_validate({"uri": "s3://outputs/questions/", "storage": samples.STORAGE})
HUB = {
    "uri": "hf://acme/tiny",
    "revision": "c" * 40,
    "digest": samples.DIGEST,
    "tokenSecretName": "hub",
}
CLAIM = {"uri": "pvc://shared/models/tiny/", "digest": samples.DIGEST}
CLAIM_CACHE = Compute.model_validate({"cache": {"claimName": "models"}})
HOST_CACHE = Compute.model_validate({"cache": {"hostPath": "/var/cache/models"}})


def planned(model: Any, **compute: Any) -> StagePlan:
    manifest = samples.alignment(baseModel=model, **compute)
    spec = AlignmentRunSpec.model_validate(manifest["spec"])
    return tasks.align(META, spec, DATASET, ORIGIN, "a guarantee")


def pod(task: Task, compute: Compute, custodian: Custodian | None = None) -> Any:
    made = jobs.manifest(META, task, samples.DIGEST, compute, SETTINGS, custodian, 1)
    return made["spec"]["template"]["spec"]


def volumes(given: Any) -> dict[str, Any]:
    """What is mounted beside scratch, by where."""
    sources = {volume.pop("name"): volume for volume in given["volumes"]}
    return {
        mount["mountPath"]: sources[mount["name"]] | {"readOnly": mount.get("readOnly", False)}
        for mount in given["containers"][0]["volumeMounts"]
        if mount["mountPath"] not in ("/scratch", "/tmp")
    }


def environment(given: Any) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in given["containers"][0]["env"]}


def test_each_source_becomes_an_input_of_its_kind() -> None:
    assert planned(samples.MODEL).task.inputs["base"] == ModelInput(
        store="outputs", uri="s3://models/generator/", digest=samples.DIGEST
    )
    assert planned(HUB).task.inputs["base"] == HubModelInput(
        repository="acme/tiny", revision="c" * 40, digest=samples.DIGEST, token_secret="hub"
    )
    assert planned(CLAIM).task.inputs["base"] == ClaimModelInput(
        claim="shared", path="models/tiny/", digest=samples.DIGEST
    )


def test_a_model_may_lie_in_a_store_of_its_own() -> None:
    role = "arn:aws:iam::123456789012:role/models"
    auth = {"type": "WorkloadIdentity", "roleArn": role}
    other = {"endpoint": "https://models.example.com", "auth": auth}
    task = planned({**samples.MODEL, "storage": other}).task
    base = task.inputs["base"]
    assert isinstance(base, ModelInput)
    assert task.stores[base.store].endpoint == "https://models.example.com"
    assert isinstance(task.stores[base.store].credentials, WebIdentity)
    assert task.stores["outputs"].endpoint == samples.STORAGE["endpoint"]


def test_how_a_source_is_entered_makes_no_other_work_but_its_content_and_template_do() -> None:
    digest = planned(HUB).digest
    assert planned({**HUB, "tokenSecretName": "other"}).digest == digest
    assert planned({**HUB, "revision": "d" * 40}).digest != digest
    assert planned({**HUB, "chatTemplate": "{{ messages }}"}).digest != digest


def test_a_hubs_token_and_address_reach_its_pods_alone() -> None:
    given = pod(planned(HUB).task, Compute())
    assert environment(given)["HF_ENDPOINT"] == "https://hub.example.com"
    assert volumes(given)["/var/run/secrets/palimpsest/stores/hub"] == {
        "secret": {"secretName": "hub", "defaultMode": 0o440},
        "readOnly": True,
    }
    other = pod(planned(samples.MODEL).task, Compute())
    assert "HF_ENDPOINT" not in environment(other)
    assert set(volumes(other)) == {"/var/run/secrets/palimpsest/stores/store"}


def test_a_claim_is_mounted_for_reading_and_needs_no_cache() -> None:
    given = pod(planned(CLAIM).task, CLAIM_CACHE)
    assert "PALIMPSEST_CACHE" not in environment(given)
    found = volumes(given)
    assert found["/var/lib/palimpsest/claims/shared"] == {
        "persistentVolumeClaim": {"claimName": "shared", "readOnly": True},
        "readOnly": True,
    }
    assert "/var/cache/palimpsest" not in found


@pytest.mark.parametrize(
    ("compute", "source"),
    [
        (CLAIM_CACHE, {"persistentVolumeClaim": {"claimName": "models"}}),
        (HOST_CACHE, {"hostPath": {"path": "/var/cache/models", "type": "Directory"}}),
    ],
)
def test_a_cache_is_mounted_where_a_model_is_fetched(compute: Compute, source: Any) -> None:
    task = planned(samples.MODEL).task
    given = pod(task, compute)
    assert environment(given)["PALIMPSEST_CACHE"] == "/var/cache/palimpsest"
    assert volumes(given)["/var/cache/palimpsest"] == source | {"readOnly": False}
    # A claim that one node alone may mount would hold up pods that need no model.
    without = task.model_copy(update={"inputs": {}})
    assert "/var/cache/palimpsest" not in volumes(pod(without, compute))


@pytest.mark.parametrize("compute", [CLAIM_CACHE, HOST_CACHE, Compute()])
def test_in_custody_the_custodian_alone_chooses_the_cache(compute: Compute) -> None:
    task = planned(samples.MODEL).task
    bare = Custodian.model_validate({"namespace": "custody"})
    assert "/var/cache/palimpsest" not in volumes(pod(task, compute, bare))
    cached = {"namespace": "custody", "compute": {"cache": {"claimName": "custodians"}}}
    given = pod(task, compute, Custodian.model_validate(cached))
    assert volumes(given)["/var/cache/palimpsest"] == {
        "persistentVolumeClaim": {"claimName": "custodians"},
        "readOnly": False,
    }
    # The name that the chart's policy lets through.
    assert {"name": "cache", "persistentVolumeClaim": {"claimName": "custodians"}} in pod(
        task, compute, Custodian.model_validate(cached)
    )["volumes"]


def test_a_histogram_takes_no_cache_of_its_tenants_default() -> None:
    compute = StageCompute(default=CLAIM_CACHE).custody()
    assert "models" not in canonical_json(compute.model_dump()).decode()
    with pytest.raises(ValidationError):
        StageCompute.model_validate({"histogram": {"cache": {"claimName": "models"}}})
