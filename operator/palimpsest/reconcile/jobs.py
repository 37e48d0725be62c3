"""A stage's Job: its manifest, and what a Job's status says. Pure."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from palimpsest.api import GROUP
from palimpsest.api.budget import Custodian
from palimpsest.api.common import Compute
from palimpsest.api.outcomes import RETRYABLE_EXIT_CODE, Outcome
from palimpsest.api.task import (
    CREDENTIALS_ROOT,
    SCRATCH,
    TASK_VARIABLE,
    SampleParameters,
    Task,
    canonical_json,
)

from .observed import Job, Meta, Pod, Settings

LABEL_KIND = f"{GROUP}/kind"
LABEL_NAMESPACE = f"{GROUP}/namespace"
LABEL_NAME = f"{GROUP}/name"
LABEL_STAGE = f"{GROUP}/stage"
LABEL_ATTEMPT = f"{GROUP}/attempt"
MANAGED_BY = {"app.kubernetes.io/managed-by": "palimpsest"}
USER = 65532

# The order is read back from the Failed condition's message: "... rule at index N".
_PRIVATE_RULES: tuple[dict[str, Any], ...] = (
    {
        "action": "FailJob",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    },
    {
        "action": "FailJob",
        "onExitCodes": {"operator": "In", "values": [RETRYABLE_EXIT_CODE]},
    },
    {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [0]}},
)
_PUBLIC_RULES: tuple[dict[str, Any], ...] = (
    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    {
        "action": "FailJob",
        "onExitCodes": {"operator": "NotIn", "values": [0, RETRYABLE_EXIT_CODE, 137, 143]},
    },
)
_FAILURES: tuple[Literal["Disrupted", "Retryable", "Program"], ...] = (
    "Disrupted",
    "Retryable",
    "Program",
)


def job_name(name: str, stage: str, digest: str, attempt: int | None = None) -> str:
    """Deterministic, at most 52 characters (the Job controller appends to it)."""
    suffix = f"-{stage}-{digest.removeprefix('sha256:')[:8]}" + (f"-{attempt}" if attempt else "")
    return name[: 52 - len(suffix)].rstrip("-") + suffix


def labels(meta: Meta, stage: str, attempt: int) -> dict[str, str]:
    """How a Job and its pods name their owner; owner references do not cross namespaces."""
    return {
        **MANAGED_BY,
        LABEL_KIND: meta.kind,
        LABEL_NAMESPACE: meta.namespace,
        LABEL_NAME: meta.name,
        LABEL_STAGE: stage,
        LABEL_ATTEMPT: str(attempt),
    }


def manifest(
    meta: Meta,
    task: Task,
    digest: str,
    compute: Compute,
    settings: Settings,
    custodian: Custodian | None,
    attempt: int,
) -> dict[str, Any]:
    """The Job of one stage: in the custodian's namespace when `custodian` is given."""
    parameters = task.parameters
    shards = parameters.shards if isinstance(parameters, SampleParameters) else 1
    marks = labels(meta, parameters.stage, attempt)
    private = custodian is not None
    name = job_name(meta.name, parameters.stage, digest, attempt if private else None)
    spec: dict[str, Any] = {
        "completions": shards,
        "parallelism": shards,
        "completionMode": "Indexed",
        "template": {
            "metadata": {"labels": marks},
            "spec": _pod(task, compute, settings, custodian, attempt),
        },
    }
    if private:
        spec["backoffLimit"] = 0
        spec["podFailurePolicy"] = {"rules": list(_PRIVATE_RULES)}
    else:
        spec["backoffLimitPerIndex"] = 3
        spec["podFailurePolicy"] = {"rules": list(_PUBLIC_RULES)}
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": custodian.namespace if custodian else meta.namespace,
        "labels": marks,
    }
    if not private:
        metadata["ownerReferences"] = [
            {
                "apiVersion": f"{GROUP}/v1alpha1",
                "kind": meta.kind,
                "name": meta.name,
                "uid": meta.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _pod(
    task: Task, compute: Compute, settings: Settings, custodian: Custodian | None, attempt: int
) -> dict[str, Any]:
    secrets = sorted({store.credentials for store in task.stores.values()})
    container: dict[str, Any] = {
        "name": "stage",
        "image": settings.stage_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["palimpsest-stage"],
        "env": [
            {
                "name": TASK_VARIABLE,
                "value": canonical_json(task.model_dump(by_alias=True)).decode(),
            },
            {"name": "PALIMPSEST_ATTEMPT", "value": str(attempt)},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        "resources": compute.resources.model_dump(by_alias=True),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "File",
        "volumeMounts": [
            {"name": "scratch", "mountPath": SCRATCH},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own emptyDir
            *(
                {
                    "name": f"store-{index}",
                    "mountPath": f"{CREDENTIALS_ROOT}/{secret}",
                    "readOnly": True,
                }
                for index, secret in enumerate(secrets)
            ),
        ],
    }
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "scratch", "emptyDir": {"sizeLimit": compute.scratch}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
            *(
                {
                    "name": f"store-{index}",
                    "secret": {"secretName": secret, "defaultMode": 0o440},
                }
                for index, secret in enumerate(secrets)
            ),
        ],
    }
    selector = dict(compute.node_selector)
    if custodian:
        pod["serviceAccountName"] = custodian.service_account_name
        selector |= custodian.compute.node_selector
    if selector:
        pod["nodeSelector"] = selector
    if compute.tolerations:
        pod["tolerations"] = [
            toleration.model_dump(by_alias=True, exclude_none=True)
            for toleration in compute.tolerations
        ]
    if compute.priority_class_name:
        pod["priorityClassName"] = compute.priority_class_name
    if compute.runtime_class_name:
        pod["runtimeClassName"] = compute.runtime_class_name
    return pod


def observe_job(job: Mapping[str, Any], pods: tuple[Pod, ...]) -> Job:
    """A Job as the API server shows it (camelCase JSON)."""
    metadata, status = job["metadata"], job.get("status", {})
    marks = metadata.get("labels", {})
    states = {
        condition["type"]: condition
        for condition in status.get("conditions") or []
        if condition["status"] == "True"
    }
    state: Literal["Active", "Succeeded", "Failed"] = "Active"
    failure: Literal["", "Disrupted", "Retryable", "Program"] = ""
    ended = ""
    if "Complete" in states:
        state, ended = "Succeeded", states["Complete"].get("lastTransitionTime") or ""
    elif "Failed" in states:
        state, ended = "Failed", states["Failed"].get("lastTransitionTime") or ""
        failure = _failure(states["Failed"])
    return Job(
        name=metadata["name"],
        stage=marks.get(LABEL_STAGE, ""),
        attempt=int(marks.get(LABEL_ATTEMPT, "1")),
        state=state,
        failure=failure,
        deleting=bool(metadata.get("deletionTimestamp")),
        suspended=bool(job["spec"].get("suspend")),
        started=status.get("startTime") or "",
        ended=ended,
        ended_at=datetime.fromisoformat(ended) if ended else None,
        pods=pods,
    )


def _failure(condition: Mapping[str, Any]) -> Literal["Disrupted", "Retryable", "Program"]:
    message = condition.get("message") or ""
    for index, failure in enumerate(_FAILURES):
        if f"rule at index {index}" in message:
            return failure
    return "Program"


_START_TROUBLES = {
    "ImagePullBackOff",
    "ErrImagePull",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
}


def observe_pod(pod: Mapping[str, Any]) -> Pod:
    """A pod as the API server shows it."""
    status = pod.get("status", {})
    trouble: tuple[str, str] | None = None
    outcome: Outcome | None = None
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            trouble = ("Unschedulable", condition.get("message") or "")
    for container in status.get("containerStatuses") or []:
        state = container.get("state", {})
        waiting = state.get("waiting") or {}
        if waiting.get("reason") in _START_TROUBLES:
            trouble = (waiting["reason"], waiting.get("message") or "")
        if state.get("terminated"):
            outcome = parse_outcome(state["terminated"])
    return Pod(
        name=pod["metadata"]["name"],
        phase=status.get("phase") or "Pending",
        outcome=outcome,
        trouble=trouble,
    )


def parse_outcome(terminated: Mapping[str, Any]) -> Outcome | None:
    """The outcome in a termination message: one of the closed set, whatever else stands there."""
    if terminated.get("reason") == "OOMKilled":
        return Outcome.OUT_OF_RESOURCES
    try:
        return Outcome(json.loads(terminated.get("message") or "")["outcome"])
    except (ValueError, TypeError, KeyError):
        return None
