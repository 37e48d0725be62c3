"""A stage's Job: its manifest, and what a Job's status says. Pure."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from kubernetes.utils.quantity import parse_quantity

from palimpsest.api import GROUP
from palimpsest.api.budget import Custodian, CustodyCompute
from palimpsest.api.common import Compute, PrivateCompute, TrainingCompute
from palimpsest.api.outcomes import RETRYABLE_EXIT_CODE, Outcome
from palimpsest.api.shortage import Shortage
from palimpsest.api.task import (
    CREDENTIALS_ROOT,
    SCRATCH,
    SCRATCH_VARIABLE,
    TASK_VARIABLE,
    TOKEN_FILE,
    TRACE_VARIABLE,
    UID_VARIABLE,
    HubModelInput,
    SampleParameters,
    Task,
    WebIdentity,
    canonical_json,
    sha256_digest,
)
from palimpsest.telemetry.logs import LEVEL_VARIABLE
from palimpsest.terms.placement import placed

from . import models, peers
from .observed import Job, Meta, Pod, Settings
from .policies import blockage, queueing

LABEL_KIND = f"{GROUP}/kind"
LABEL_NAMESPACE = f"{GROUP}/namespace"
LABEL_NAME = f"{GROUP}/name"
LABEL_STAGE = f"{GROUP}/stage"
LABEL_ATTEMPT = f"{GROUP}/attempt"
ANNOTATION_COMPUTE = f"{GROUP}/compute"
ANNOTATION_ASKED = f"{GROUP}/asked"
MANAGED_BY = {"app.kubernetes.io/managed-by": "palimpsest"}
USER = 65532
# The kubelet's words when it evicts a pod for more files than its own limits allow.
_OVERFULL = re.compile(r"exceeds the (total )?limit|exceeded its local ephemeral storage limit")
# What a container that its node forgot is said to have ended by: containerd's word after a reboot,
# and the kubelet's own.
_LOST = ("Unknown", "ContainerStatusUnknown")
# The kubelet renews a token at 80% of its life.
TOKEN_SECONDS = 3600

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
    """Deterministic, at most 52 characters (the Job controller appends to it).

    All attempts share what comes before their number. Tenants' Jobs lie side by side in custody:
    64 bits of the work's digest, which names the tenant, keep one from taking another's name.
    """
    suffix = f"-{stage}-{digest.removeprefix('sha256:')[:16]}"
    stem = name[: 52 - len(suffix) - len("-11")].rstrip("-.") + suffix
    return f"{stem}-{attempt}" if attempt else stem


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


def compute_digest(compute: PrivateCompute, custodian: Custodian | None) -> str:
    """What a stage's pods are given, as a digest: a change is worth another attempt."""
    given = placed(custodian.compute, compute) if custodian else compute
    return sha256_digest(canonical_json(given.model_dump(by_alias=True)))


def manifest(
    meta: Meta,
    task: Task,
    digest: str,
    compute: PrivateCompute,
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
            "spec": _pod(task, compute, settings, custodian, attempt, marks),
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
        "annotations": {ANNOTATION_COMPUTE: compute_digest(compute, custodian)},
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
    made: dict[str, Any] = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": spec,
    }
    if isinstance(compute, TrainingCompute):
        made = peers.joined(made, compute)
    made = queueing.queued(made, _hosting(compute, custodian).queue_name)
    made["metadata"]["annotations"][ANNOTATION_ASKED] = sha256_digest(canonical_json(made))
    if not private:
        # No part of what is asked: a running Job is not replaced for another generation's trace.
        (container,) = made["spec"]["template"]["spec"]["containers"]
        container["env"] += _logged(meta, settings)
    return made


def _logged(meta: Meta, settings: Settings) -> list[dict[str, str]]:
    """What the lines of the stage's log bear, and from which level on it writes any."""
    told = {
        UID_VARIABLE: meta.uid,
        TRACE_VARIABLE: meta.trace_id,
        LEVEL_VARIABLE: settings.log_level,
    }
    return [{"name": name, "value": value} for name, value in told.items() if value]


def asked(made: Mapping[str, Any]) -> str:
    """The digest of all that a manifest asks for."""
    return str(made["metadata"]["annotations"][ANNOTATION_ASKED])


def _hosting(compute: PrivateCompute, custodian: Custodian | None) -> Compute | CustodyCompute:
    """Whose word on queues and pull secrets counts: in custody, the custodian's."""
    if custodian:
        return custodian.compute
    return compute if isinstance(compute, Compute) else Compute()


def _pod(
    task: Task,
    compute: PrivateCompute,
    settings: Settings,
    custodian: Custodian | None,
    attempt: int,
    marks: Mapping[str, str],
) -> dict[str, Any]:
    hosting = _hosting(compute, custodian)
    if custodian:
        compute = placed(custodian.compute, compute)
    mounts, volumes = _credentials(task)
    given = models.access(task, compute, custodian, settings.hub_endpoint)
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
            {"name": SCRATCH_VARIABLE, "value": str(int(parse_quantity(compute.scratch)))},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            *given.environment,
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
            *mounts,
            *given.mounts,
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
            *volumes,
            *given.volumes,
        ],
    }
    if custodian:
        pod["serviceAccountName"] = custodian.service_account_name
    elif isinstance(compute, Compute) and compute.service_account_name:
        pod["serviceAccountName"] = compute.service_account_name
    if hosting.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in hosting.image_pull_secrets]
    if compute.shared_memory:
        memory = {"medium": "Memory", "sizeLimit": compute.shared_memory}
        pod["volumes"].append({"name": "shared-memory", "emptyDir": memory})
        container["volumeMounts"].append({"name": "shared-memory", "mountPath": "/dev/shm"})  # noqa: S108 - the pod's own emptyDir
    if compute.node_selector:
        pod["nodeSelector"] = dict(compute.node_selector)
    if compute.tolerations:
        pod["tolerations"] = [
            toleration.model_dump(by_alias=True, exclude_none=True)
            for toleration in compute.tolerations
        ]
    if compute.priority_class_name:
        pod["priorityClassName"] = compute.priority_class_name
    if compute.runtime_class_name:
        pod["runtimeClassName"] = compute.runtime_class_name
    if isinstance(compute, Compute) and not custodian:
        pod |= _elsewhere(compute, marks)
    return pod


def _elsewhere(compute: Compute, marks: Mapping[str, str]) -> dict[str, Any]:
    """Where pods outside custody run, beyond what private ones may ask for."""
    chosen: dict[str, Any] = {}
    if compute.affinity:
        chosen["affinity"] = compute.affinity.model_dump(by_alias=True, exclude_none=True)
    if compute.topology_spread_constraints:
        chosen["topologySpreadConstraints"] = [
            {**each.model_dump(by_alias=True), "labelSelector": {"matchLabels": dict(marks)}}
            for each in compute.topology_spread_constraints
        ]
    if compute.scheduler_name:
        chosen["schedulerName"] = compute.scheduler_name
    return chosen


def _credentials(task: Task) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Mounts and volumes of what stores, hub and endpoints are entered with, each of them once."""
    sources: dict[str, dict[str, Any]] = {}
    for store in task.stores.values():
        if isinstance(store.credentials, WebIdentity):
            token = {
                "audience": store.credentials.audience,
                "expirationSeconds": TOKEN_SECONDS,
                "path": TOKEN_FILE,
            }
            sources[store.credentials.folder] = {
                "projected": {
                    "sources": [{"serviceAccountToken": token}],
                    "defaultMode": 0o440,
                }
            }
        else:
            secret = store.credentials.secret
            sources[secret] = {"secret": {"secretName": secret, "defaultMode": 0o440}}
    keys = [one.token_secret for one in task.inputs.values() if isinstance(one, HubModelInput)]
    keys += [access.secret for access in task.endpoints.values()]
    for secret in filter(None, keys):
        sources[secret] = {"secret": {"secretName": secret, "defaultMode": 0o440}}
    mounts: list[dict[str, Any]] = []
    volumes: list[dict[str, Any]] = []
    for index, (folder, source) in enumerate(sorted(sources.items())):
        name = f"store-{index}"
        path = f"{CREDENTIALS_ROOT}/{folder}"
        mounts.append({"name": name, "mountPath": path, "readOnly": True})
        volumes.append({"name": name, **source})
    return mounts, volumes


def observe_job(
    job: Mapping[str, Any],
    pods: tuple[Pod, ...],
    trouble: tuple[str, str] | None = None,
    unserved: Mapping[str, Any] | None = None,
) -> Job:
    """A Job as the API server shows it (camelCase JSON).

    `trouble` is what its Events say, `unserved` the Service that it needs and that is not there.
    """
    metadata, status = job["metadata"], job.get("status", {})
    marks, notes = metadata.get("labels", {}), metadata.get("annotations") or {}
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
        failure = _failure(job["spec"], states["Failed"])
        if failure == "Retryable" and any(p.outcome and p.outcome.of_the_program for p in pods):
            # One pod's program failed, and another, which missed it, was seen first.
            failure = "Program"
    return Job(
        namespace=metadata["namespace"],
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
        compute=notes.get(ANNOTATION_COMPUTE, ""),
        queue=marks.get(queueing.QUEUE_LABEL, ""),
        trouble=trouble,
        unserved=unserved,
        asked=notes.get(ANNOTATION_ASKED, ""),
        ran=any(status.get(count) for count in ("ready", "succeeded", "failed"))
        or any(pod.phase != "Pending" or pod.outcome for pod in pods),
    )


def _failure(
    spec: Mapping[str, Any], condition: Mapping[str, Any]
) -> Literal["Disrupted", "Retryable", "Program"]:
    if "backoffLimitPerIndex" in spec:
        # Outside custody: what may pass was tried again inside the Job, by the rules' exceptions.
        return "Program"
    message = condition.get("message") or ""
    for index, failure in enumerate(_FAILURES):
        if f"rule at index {index}" in message:
            return failure
    return "Program"


def observe_pod(pod: Mapping[str, Any], trouble: tuple[str, str] | None = None) -> Pod:
    """A pod as the API server shows it; `trouble` is what its Events say."""
    status = pod.get("status", {})
    outcome: Outcome | None = None
    shortage: Shortage | None = None
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            trouble = blockage.unschedulable(condition.get("message") or "")
    for container in status.get("containerStatuses") or []:
        state = container.get("state", {})
        waiting = state.get("waiting") or {}
        said = blockage.container(waiting.get("reason") or "", waiting.get("message") or "")
        trouble = said or trouble
        if state.get("terminated"):
            outcome = parse_outcome(state["terminated"])
            shortage = parse_shortage(state["terminated"])
    if status.get("reason") == "Evicted" and _OVERFULL.search(status.get("message") or ""):
        # Not the node's need but the pod's own files: another pod would fill as fast.
        outcome = Outcome.OUT_OF_RESOURCES
    return Pod(
        name=pod["metadata"]["name"],
        phase=status.get("phase") or "Pending",
        outcome=outcome,
        trouble=trouble,
        shortage=shortage,
    )


def parse_outcome(terminated: Mapping[str, Any]) -> Outcome | None:
    """The outcome in a termination message: one of the closed set, whatever else stands there."""
    if terminated.get("reason") == "OOMKilled":
        return Outcome.OUT_OF_RESOURCES
    try:
        return Outcome(json.loads(terminated.get("message") or "")["outcome"])
    except (ValueError, TypeError, KeyError):
        return Outcome.INTERRUPTED if terminated.get("reason") in _LOST else None


def parse_shortage(terminated: Mapping[str, Any]) -> Shortage | None:
    """What a termination message says was too little, if that is all numbers and known words."""
    try:
        return Shortage.model_validate(json.loads(terminated.get("message") or "")["shortage"])
    except (ValueError, TypeError, KeyError):
        return None
