"""Why a stage's pod cannot start: one reason for each cause, with what helps."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

_IMAGE = "check the chart's images.stage, and that the nodes may pull it (imagePullSecrets)"
_REMEDIES = {
    "Unschedulable": "lower the requests of spec.compute, change its placement, or add a node",
    "ImagePullBackOff": _IMAGE,
    "SecretNotFound": "create it with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
    "correct storage.auth.secretName",
    "VolumeNotMounted": "see the pod's events",
    "ContainerNotCreated": "see the pod's events",
    "QuotaExceeded": "raise the namespace's ResourceQuota, free some of it, or lower the requests "
    "of spec.compute",
    "ServiceAccountNotFound": "create it (the chart makes the custodian's), or correct its name",
    "PodsRefused": "see the Job's events and correct what refuses its pods",
}
_CONTAINER = {
    "ImagePullBackOff": "ImagePullBackOff",
    "ErrImagePull": "ImagePullBackOff",
    "ErrImageNeverPull": "ImagePullBackOff",
    "InvalidImageName": "ImagePullBackOff",
    "CreateContainerConfigError": "ContainerNotCreated",
    "CreateContainerError": "ContainerNotCreated",
    "RunContainerError": "ContainerNotCreated",
}
_SECRET = re.compile(r'secret "?([a-z0-9.-]+)"? not found')


def unschedulable(message: str) -> tuple[str, str]:
    """Of a pod that no node takes."""
    return _said("Unschedulable", message)


def container(reason: str, message: str) -> tuple[str, str] | None:
    """Of a container's waiting state; None for one that is only starting."""
    known = _CONTAINER.get(reason)
    if known is None:
        return None
    if known == "ContainerNotCreated" and _SECRET.search(message):
        known = "SecretNotFound"
    return _said(known, message)


def mounting(events: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """Of a pod's Events: failed mounts appear nowhere else."""
    for event in reversed(events):
        if event.get("reason") == "FailedMount":
            message = str(event.get("message") or "")
            missing = _SECRET.search(message)
            if missing:
                return _said("SecretNotFound", f"Secret {missing[1]} does not exist")
            return _said("VolumeNotMounted", message)
    return None


def creating(events: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """Of a Job's Events: why the Job controller cannot make its pods."""
    for event in reversed(events):
        if event.get("reason") == "FailedCreate":
            return refusal(str(event.get("message") or ""))
    return None


def refusal(message: str) -> tuple[str, str]:
    """Of what the API server said when it refused a Job or its pods."""
    if "exceeded quota" in message:
        return _said("QuotaExceeded", message)
    if "serviceaccount" in message and "not found" in message:
        return _said("ServiceAccountNotFound", message)
    return _said("PodsRefused", message)


def _said(reason: str, message: str) -> tuple[str, str]:
    return reason, f"{message.strip().rstrip('.')[:300]}. Remedy: {_REMEDIES[reason]}."
