"""Models of a hub and of a claim, and caches in and outside custody, on the real node."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cluster import parts
from cluster.parts import LISTING
from demo import install, watch
from demo.checker.artifacts import verify
from demo.ground import Ground
from e2e.conftest import PATIENCE_SECONDS, clean, fresh_specs
from e2e.run import Pipeline, bucket_as
from palimpsest.api.task import sha256_digest
from palimpsest.storage.model_folder import described, listing, model_files
from unit.stage import hub

REPOSITORY, REVISION, TOKEN = "acme/tiny", "c" * 40, "hf_e2e"
PORT = 8080
SERVE = f"""
import time
from pathlib import Path
from hub import Hub
hub = Hub("{REPOSITORY}", "{REVISION}", Path("/model"), token="{TOKEN}")
with hub.serving("0.0.0.0", {PORT}):
    while True:
        time.sleep(1)
        Path("/tmp/asked").write_text("\\n".join(hub.asked))
"""

pytestmark = pytest.mark.full


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """What lies on the node: a model that all may read, and a cache for each namespace.

    The model is not quite the store's: that one's digest would be found in the cache.
    """
    made = {"model": tmp_path / "model", "custody": tmp_path / "custody", "tenant": tmp_path / "t"}
    shutil.copytree(parts.tiny().folder, made["model"])
    # Hubs have none, and on a claim users need none.
    (made["model"] / LISTING).unlink()
    with (made["model"] / "config.json").open("a") as config:
        config.write("\n")
    for path in made["model"].iterdir():
        path.chmod(0o644)
    for cache in (made["custody"], made["tenant"]):
        cache.mkdir()
        cache.chmod(0o777)
    return made


@pytest.fixture
def digest(folders: dict[str, Path]) -> str:
    """Of the model on the node, as users have it from `palimpsest model digest`."""
    model = folders["model"]
    return sha256_digest(listing([described(model, path) for path in model_files(model)]))


def test_models_come_from_a_hub_a_claim_and_caches(
    ground: Ground, folders: dict[str, Path], digest: str
) -> None:
    specs = fresh_specs(ground, "models")
    run = Pipeline(ground, specs, bucket_as(ground, "root"))
    tools, name = ground.tools, specs.name
    with ExitStack() as held:
        endpoint = held.enter_context(_hub(ground, folders["model"]))
        held.enter_context(_chart_with(ground, endpoint))
        for namespace, claim, folder in (
            (install.TENANT, "shared-models", folders["model"]),
            (install.TENANT, "model-cache", folders["tenant"]),
            (install.CUSTODY, "model-cache", folders["custody"]),
        ):
            held.enter_context(_claim(ground, namespace, claim, folder))
        held.callback(clean, run)
        tools.apply("\n---\n".join(map(json.dumps, _resources(run, digest))), "all")
        run.resources = watch.until_ready(tools, specs.expected, PATIENCE_SECONDS)

        assert verify(run.bucket, run.artifacts()) == []
        # Beside private data two models are used, outside the embedder's stage and the annotator's.
        assert _cached(folders["custody"]) == {specs.model.digest, specs.embedder.digest}
        assert digest in _cached(folders["tenant"])
        asked = _asked(ground)
        weights = f"/{REPOSITORY}/resolve/{REVISION}/model.safetensors"
        assert weights in asked
        assert _claims_of(ground, name, "sft") == ["shared-models"]

        # The second of the kind finds its model in the cache.
        fetched = asked.count(weights)
        again = _dataset(run, f"{name}-again", digest)
        held.callback(_delete, ground, again)
        tools.apply(json.dumps(again), "the second data set")
        watch.until_ready(tools, {("SyntheticDataset", f"{name}-again")}, PATIENCE_SECONDS)
        assert _asked(ground).count(weights) == fetched


def _resources(run: Pipeline, digest: str) -> list[dict[str, Any]]:
    specs = run.specs
    budget, generator, alignment = (
        json.loads(specs.yaml(kind)) for kind in ("budget", "generator", "alignment")
    )
    budget["spec"]["custodian"]["compute"]["cache"] = {"claimName": "model-cache"}
    # Room for the second data set's histogram.
    budget["spec"]["plan"]["histograms"] *= 2
    budget["spec"]["limit"]["epsilon"] = "5"
    alignment["spec"]["baseModel"] = {
        "uri": "pvc://shared-models/",
        "digest": digest,
    }
    return [generator, _dataset(run, specs.name, digest), alignment, budget]


def _dataset(run: Pipeline, name: str, digest: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(run.specs.yaml("dataset"))
    made["metadata"]["name"] = name
    spec = made["spec"]
    spec["annotation"]["model"] = {
        "uri": f"hf://{REPOSITORY}",
        "revision": REVISION,
        "digest": digest,
        "tokenSecretName": "hub",
    }
    spec["compute"] = {"default": {"cache": {"claimName": "model-cache"}}}
    spec["output"]["uri"] = f"{run.specs.outputs}{name}/"
    return made


def _asked(ground: Ground) -> list[str]:
    """The paths that the hub was asked for."""
    cat = ground.tools.kubectl("-n", "hub", "exec", "hub", "--", "cat", "/tmp/asked")
    return cat.out.split()


def _cached(folder: Path) -> set[str]:
    return {f"sha256:{path.name}" for path in folder.iterdir() if (path / LISTING).is_file()}


def _claims_of(ground: Ground, name: str, stage: str) -> list[str]:
    """The claims that the stage's pods mount."""
    selector = f"palimpsest.dev/name={name},palimpsest.dev/stage={stage}"
    return [
        str(volume["persistentVolumeClaim"]["claimName"])
        for pod in ground.tools.get("pods", "-n", install.TENANT, "-l", selector)["items"]
        for volume in pod["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    ]


def _delete(ground: Ground, resource: dict[str, Any]) -> None:
    kind, name = resource["kind"].lower(), resource["metadata"]["name"]
    ground.tools.kubectl("-n", install.TENANT, "delete", kind, name, "--timeout=60s")


@contextmanager
def _hub(ground: Ground, model: Path) -> Iterator[str]:
    """A model hub in the cluster; its URL as pods reach it."""
    tools = ground.tools
    made: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "hub"}},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "hub", "namespace": "hub"},
            "data": {"hub.py": Path(hub.__file__).read_text(), "serve.py": SERVE},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "hub", "namespace": "hub", "labels": {"app": "hub"}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [
                    {
                        "name": "hub",
                        "image": ground.images.stage,
                        "command": ["python", "/hub/serve.py"],
                        "readinessProbe": {"tcpSocket": {"port": PORT}},
                        "volumeMounts": [
                            {"name": "code", "mountPath": "/hub"},
                            {"name": "model", "mountPath": "/model", "readOnly": True},
                        ],
                    }
                ],
                "volumes": [
                    {"name": "code", "configMap": {"name": "hub"}},
                    {"name": "model", "hostPath": {"path": str(model), "type": "Directory"}},
                ],
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "hub", "namespace": "hub"},
            "spec": {"selector": {"app": "hub"}, "ports": [{"port": PORT}]},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "hub", "namespace": install.TENANT},
            "stringData": {"HF_TOKEN": TOKEN},
        },
    ]
    try:
        tools.apply("\n---\n".join(map(json.dumps, made)), "the hub")
        ready = tools.kubectl(
            *("-n", "hub", "wait", "--for=condition=Ready", "pod/hub", "--timeout=100s")
        )
        assert ready.code == 0, ready.err
        yield f"http://hub.hub.svc:{PORT}"
    finally:
        tools.kubectl("delete", "namespace", "hub", "--timeout=100s")
        tools.kubectl("-n", install.TENANT, "delete", "secret", "hub")


@contextmanager
def _chart_with(ground: Ground, endpoint: str) -> Iterator[None]:
    """The chart's values name the hub, and the custodian's cache."""
    values = install.chart_values(ground)
    values["custody"]["namespaces"][0]["cacheClaim"] = "model-cache"
    changed = install.BUILD / "values-of-models.json"
    changed.write_text(json.dumps(values | {"hub": {"endpoint": endpoint}}))
    try:
        done = ground.tools.helm(
            *("upgrade", install.RELEASE, str(install.CHART), "--namespace", install.SYSTEM),
            *("--wait", "--timeout", "4m", "--values", str(changed)),
        )
        assert done.code == 0, done.err
        yield
    finally:
        install.install(ground)


@contextmanager
def _claim(ground: Ground, namespace: str, name: str, folder: Path) -> Iterator[None]:
    """A claim on a volume that is a folder of the node's."""
    volume = f"{namespace}-{name}"
    common = {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "",
    }
    made: list[dict[str, Any]] = [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {
                **common,
                "capacity": {"storage": "1Gi"},
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": str(folder), "type": "Directory"},
                "claimRef": {"namespace": namespace, "name": name},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                **common,
                "volumeName": volume,
                "resources": {"requests": {"storage": "1Gi"}},
            },
        },
    ]
    try:
        ground.tools.apply("\n---\n".join(map(json.dumps, made)), f"the claim {name}")
        yield
    finally:
        # Pods that mount it may go first.
        wait = ("--wait=false", "--ignore-not-found")
        ground.tools.kubectl("-n", namespace, "delete", "pvc", name, *wait)
        ground.tools.kubectl("delete", "pv", volume, *wait)
