"""The Jobs of everything that may be said of models and places, as the real API server takes them.

kubectl's strict validation refuses a field that pods do not have, the server a value they may not.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import samples
from cluster.fixtures import ControlPlane
from palimpsest.api.alignment import AlignmentRunSpec
from palimpsest.api.common import ArtifactRef, Location
from palimpsest.reconcile import jobs, tasks
from palimpsest.reconcile.observed import Meta, Settings

META = Meta("AlignmentRun", "default", "assistant", "uid-1", 1, deleting=False)
SETTINGS = Settings(stage_image="stage", cluster="c1", hub_endpoint="https://hub.example.com")
DATASET = ArtifactRef(uri="s3://outputs/questions/manifest.json", digest=samples.DIGEST)
ORIGIN = Location.model_validate({"uri": "s3://outputs/questions/", "storage": samples.STORAGE})
ROLE = {"type": "WorkloadIdentity", "roleArn": "arn:aws:iam::123456789012:role/models"}
MODELS = {
    "store": {
        **samples.MODEL,
        "chatTemplate": "{{ messages }}" * 1000,
        "storage": {"endpoint": "https://models.example.com", "auth": ROLE},
    },
    "hub": {
        "uri": "hf://acme/tiny",
        "revision": "c" * 40,
        "digest": samples.DIGEST,
        "tokenSecretName": "hub",
    },
    "claim": {"uri": "pvc://shared/models/tiny/", "digest": samples.DIGEST},
}
CACHES = {"claim": {"claimName": "models"}, "host": {"hostPath": "/var/cache/models"}}
LABEL = {"key": "zone", "operator": "In", "values": ["a", "b"]}
NODES = {
    "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [
            {"matchExpressions": [LABEL, {"key": "ssd", "operator": "Exists"}]},
            {"matchExpressions": [{"key": "spot", "operator": "DoesNotExist"}]},
        ]
    },
    "preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 7, "preference": {"matchExpressions": [{**LABEL, "operator": "NotIn"}]}}
    ],
}
PLACE = {
    "affinity": {"nodeAffinity": NODES},
    "topologySpreadConstraints": [
        {"topologyKey": "zone"},
        {"topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"},
    ],
    "schedulerName": "packer",
}


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("model", MODELS)
def test_every_job_is_one(control_plane: ControlPlane, model: str, cache: str) -> None:
    compute = {**PLACE, "cache": CACHES[cache]}
    manifest = samples.alignment(baseModel=MODELS[model], compute=compute)
    spec = AlignmentRunSpec.model_validate(manifest["spec"])
    plan = tasks.align(META, spec, DATASET, ORIGIN, "a guarantee")
    made = jobs.manifest(META, plan.task, plan.digest, spec.compute, SETTINGS, None, 1)
    text = control_plane.kubectl(
        *("create", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-"),
        stdin=json.dumps(made),
    )
    pod: dict[str, Any] = json.loads(text)["spec"]["template"]["spec"]
    assert pod["schedulerName"] == "packer"
    assert pod["affinity"] == {"nodeAffinity": NODES}
    assert len(pod["topologySpreadConstraints"]) == 2
    mounted = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    assert ("cache" in mounted) == (model != "claim")
