"""Kubernetes Events, written when a resource's standing changes; repeats only raise a count."""

import hashlib
import logging
from datetime import UTC, datetime
from typing import Any

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from palimpsest.api import API_VERSION
from palimpsest.reconcile.adapter.cluster import Cluster
from palimpsest.reconcile.conditions import rfc3339
from palimpsest.reconcile.observed import Meta
from palimpsest.reconcile.reasons import REASONS

log = logging.getLogger(__name__)


def record(cluster: Cluster, meta: Meta, warning: bool, reason: str, message: str) -> None:
    """Say it once; a failure to say it is not worth failing for.

    The reason is one of the catalogue: who filters Events by it reads docs/conditions.md.
    """
    if reason not in REASONS:
        log.error("an Event without a known reason", extra={"reason": reason})
        return
    namespace = meta.namespace or "default"
    moment = rfc3339(datetime.now(UTC))
    mark = hashlib.sha256(f"{meta.uid}{reason}{message}".encode()).hexdigest()[:16]
    path = f"/api/v1/namespaces/{namespace}/events"
    event: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{meta.name}.{mark}", "namespace": namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": meta.kind,
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
        },
        "type": "Warning" if warning else "Normal",
        "reason": reason,
        "message": message[:1024],
        "source": {"component": "palimpsest"},
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }
    try:
        cluster.call("POST", path, event)
    except ApiException as error:
        if error.status == 409:
            _again(cluster, f"{path}/{meta.name}.{mark}", moment)
    except HTTPError:
        return


def _again(cluster: Cluster, path: str, moment: str) -> None:
    try:
        known = cluster.get(path)
        if known is not None:
            patch = {"count": known.get("count", 1) + 1, "lastTimestamp": moment}
            cluster.call("PATCH", path, patch, content_type="application/merge-patch+json")
    except (ApiException, HTTPError):
        return
