"""Instructions answered by a model server in the cluster, which dies while it is asked."""

from __future__ import annotations

import json
import signal
import sysconfig
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from cluster import parts
from demo import install
from demo.checker.artifacts import of_stage
from demo.ground import Ground
from e2e.conftest import await_, clean, fresh_specs
from e2e.run import Pipeline, bucket_as
from processes import signal_pod

NAMESPACE, SERVER, PORT = "serving", "smollm2", 8000
COUNT, CONCURRENCY, TOKENS = 40, 4, 16
# Where the pod finds what the stage's image has and a server needs besides.
SITE, MODEL = "/site", "/model"

pytestmark = pytest.mark.full


def _server(image: str) -> list[dict[str, Any]]:
    """`transformers serve` with SmolLM2, behind a Service."""
    labels = {"app": SERVER}
    folders = {SITE: sysconfig.get_path("purelib"), MODEL: str(parts.smollm2().folder)}
    container = {
        "name": SERVER,
        "image": image,
        "command": ["python", "-m", "transformers.cli.transformers"],
        "args": [
            *("serve", MODEL, "--host", "0.0.0.0", "--port", str(PORT)),
            *("--device", "cpu", "--dtype", "bfloat16"),
        ],
        "env": [
            {"name": "PYTHONPATH", "value": SITE},
            {"name": "POD_NAME", "value": SERVER},
            {"name": "HF_HUB_OFFLINE", "value": "1"},
        ],
        # Or it gets none at all while anything else works.
        "resources": {"requests": {"cpu": "1"}},
        "readinessProbe": {"httpGet": {"path": "/health", "port": PORT}, "periodSeconds": 1},
        "volumeMounts": [
            {"name": path.strip("/"), "mountPath": path, "readOnly": True} for path in folders
        ],
    }
    pod = {
        "containers": [container],
        "volumes": [
            {"name": path.strip("/"), "hostPath": {"path": here}} for path, here in folders.items()
        ],
    }
    spec = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    service = {"selector": labels, "ports": [{"port": PORT}]}
    meta = {"name": SERVER, "namespace": NAMESPACE}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service},
    ]


@pytest.fixture
def server(ground: Ground) -> Iterator[str]:
    """Its base URL in the cluster."""
    manifests = "\n---\n".join(json.dumps(each) for each in _server(ground.images.stage))
    ground.tools.apply(manifests, "the model server")
    try:
        await_(partial(_serves, ground), "the model server is ready")
        yield f"http://{SERVER}.{NAMESPACE}.svc:{PORT}/v1"
    finally:
        ground.tools.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")


def _serves(ground: Ground) -> bool:
    found = ground.tools.get("deployment", SERVER, "-n", NAMESPACE)
    return bool(found["status"].get("readyReplicas"))


def _log(ground: Ground, *more: str) -> str:
    place = ("-n", NAMESPACE, f"deployment/{SERVER}")
    return ground.tools.kubectl("logs", *place, "--tail=-1", *more).out


def _answered(log: str) -> int:
    return log.count('"POST /v1/chat/completions HTTP/1.1" 200')


def test_a_server_killed_in_mid_run_has_answered_every_instruction_once(
    ground: Ground, server: str
) -> None:
    run = Pipeline(ground, fresh_specs(ground, "served"), bucket_as(ground, "root"))
    dataset = json.loads(run.specs.yaml("dataset"))
    dataset["spec"]["sampling"] |= {"count": COUNT, "shards": 1}
    del dataset["spec"]["resampling"]
    dataset["spec"]["annotation"] = {
        "endpoint": {
            "baseURL": server,
            "model": MODEL,
            "concurrency": CONCURRENCY,
            "timeoutSeconds": 60,
            "patienceSeconds": 300,
        },
        "maxNewTokens": TOKENS,
    }
    try:
        ground.tools.apply(run.specs.yaml("generator", "budget"), "the generator")
        ground.tools.apply(json.dumps(dataset), "the data set")
        await_(lambda: _answered(_log(ground)) > COUNT // 4, "a quarter of the answers")
        assert signal_pod(SERVER, signal.SIGKILL)
        await_(partial(_done, run), "the data set to be Ready")
        _check(run, _answered(_log(ground, "--previous")), _answered(_log(ground)))
    finally:
        delete = ("delete", "syntheticdataset", run.specs.name, "--timeout=60s")
        ground.tools.kubectl("-n", install.TENANT, *delete)
        clean(run)


def _done(run: Pipeline) -> bool:
    found = run.ground.tools.get("syntheticdataset", run.specs.name, "-n", install.TENANT)
    summary = found.get("status", {}).get("summary", "")
    assert "Failed" not in summary, found["status"]
    return bool(summary == "Ready")


def _check(run: Pipeline, before: int, after: int) -> None:
    found = run.artifacts()
    subject = (install.TENANT, run.specs.name)
    (annotated,) = of_stage(found, "annotate", subject)
    (pool,) = of_stage(found, "sample", subject)
    rows = annotated.lines(run.bucket, "annotated.jsonl")
    asked = pool.lines(run.bucket, "instructions.jsonl")
    assert [(row["id"], row["instruction"]) for row in rows] == [
        (row["id"], row["instruction"]) for row in asked
    ]
    # Of random weights, the generator says much that SmolLM2 has no answer to.
    assert {row["finish"] for row in rows} <= {"stop", "length", "empty", "refusal"}
    # What was under way when it died was asked again, and nothing else.
    assert 0 < before < len(rows)
    assert len(rows) <= before + after <= len(rows) + CONCURRENCY
