"""The API server as the control loop uses it: few verbs, plain JSON, errors by status code."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from kubernetes.client import ApiClient, CoordinationV1Api
from kubernetes.client.exceptions import ApiException

from palimpsest.api import GROUP, VERSION
from palimpsest.api.crd import RESOURCES
from palimpsest.reconcile import peers
from palimpsest.reconcile.jobs import (
    LABEL_KIND,
    LABEL_NAME,
    LABEL_NAMESPACE,
    observe_job,
    observe_pod,
)
from palimpsest.reconcile.observed import Job, Meta
from palimpsest.reconcile.policies import blockage

PLURALS = {resource.kind: resource.plural for resource in RESOURCES}
CLUSTER_SCOPED = {resource.kind for resource in RESOURCES if resource.scope == "Cluster"}
TIMEOUT = (5.0, 30.0)
PAGE = 100
# A start takes seconds; what takes longer may have left its reason in an Event.
STARTING_SECONDS = 5.0


class ConflictError(Exception):
    """Somebody else wrote the object meanwhile: observe again."""


class Cluster:
    """Blocking calls to one API server."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    def coordination(self) -> CoordinationV1Api:
        """The typed client of Leases."""
        return CoordinationV1Api(self._client)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Any:
        """One request; returns the parsed answer. Raises ApiException."""
        parameters = self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Content-Type": content_type, "Accept": "application/json"},
            body=body,
            auth_settings=["BearerToken"],
        )
        response = self._client.call_api(*parameters, _request_timeout=TIMEOUT)
        raw = response.read()
        if not 200 <= response.status <= 299:
            raise ApiException.from_response(http_resp=response, body=raw.decode(), data=None)
        return json.loads(raw)

    def get(self, path: str) -> Any | None:
        """The object, or None if it is not there."""
        try:
            return self.call("GET", path)
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    def resource(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        """One of our resources as JSON."""
        found: dict[str, Any] | None = self.get(self._path(kind, namespace, name))
        return found

    def resources(self, kind: str) -> Iterator[dict[str, Any]]:
        """All resources of one of our kinds, a page at a time: a thousand at once take memory."""
        path = f"/apis/{GROUP}/{VERSION}/{PLURALS[kind]}"
        query = {"limit": str(PAGE)}
        while True:
            page = self.call("GET", path, query=query)
            yield from page["items"]
            following = page["metadata"].get("continue")
            if not following:
                return
            query = {"limit": str(PAGE), "continue": following}

    def write_status(self, kind: str, current: Mapping[str, Any], status: dict[str, Any]) -> None:
        """Replace the status if it differs. Raises ConflictError if the object has changed."""
        if current.get("status") == status:
            return
        meta = current["metadata"]
        body = {**current, "status": status}
        path = self._path(kind, meta.get("namespace", ""), meta["name"]) + "/status"
        try:
            self.call("PUT", path, body)
        except ApiException as error:
            if error.status == 409:
                raise ConflictError from error
            if error.status != 404:
                raise

    def write_finalizers(
        self, kind: str, current: Mapping[str, Any], finalizers: list[str]
    ) -> dict[str, Any] | None:
        """Replace the finalizers, fenced by the resourceVersion that was read.

        The object as it is then, or None if it is gone. Raises ConflictError if it has changed.
        """
        meta = current["metadata"]
        body = {"metadata": {"finalizers": finalizers, "resourceVersion": meta["resourceVersion"]}}
        path = self._path(kind, meta.get("namespace", ""), meta["name"])
        try:
            written: dict[str, Any] = self.call(
                "PATCH", path, body, content_type="application/merge-patch+json"
            )
        except ApiException as error:
            if error.status == 409:
                raise ConflictError from error
            if error.status != 404:
                raise
            return None
        return written

    def jobs(self, meta: Meta, namespace: str | None) -> tuple[Job, ...]:
        """The Jobs in `namespace` (None: in all) that carry the owner's labels, with their pods."""
        selector = {
            "labelSelector": f"{LABEL_KIND}={meta.kind},{LABEL_NAMESPACE}={meta.namespace},"
            f"{LABEL_NAME}={meta.name}"
        }
        place = f"/namespaces/{namespace}" if namespace else ""
        jobs = self.call("GET", f"/apis/batch/v1{place}/jobs", query=selector)
        if not jobs["items"]:
            return ()
        pods = self.call("GET", f"/api/v1{place}/pods", query=selector)
        by_job: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for pod in sorted(pods["items"], key=lambda pod: pod["metadata"]["creationTimestamp"]):
            marks = pod["metadata"]
            owner = marks["namespace"], marks["labels"].get("job-name", "")
            by_job.setdefault(owner, []).append(pod)
        return tuple(
            self._observe(
                job, by_job.get((job["metadata"]["namespace"], job["metadata"]["name"]), [])
            )
            for job in jobs["items"]
        )

    def _observe(self, job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> Job:
        """With what only Events tell, where something seems to be stuck."""
        seen = tuple(
            observe_pod(pod, blockage.mounting(self._events(pod)) if _stuck(pod) else None)
            for pod in pods
        )
        podless = not pods and not job["spec"].get("suspend") and _old(job)
        running = not (job.get("status") or {}).get("conditions")
        trouble = blockage.creating(self._events(job)) if podless and running else None
        return observe_job(job, seen, trouble, self._unserved(job) if running else None)

    def _unserved(self, job: Mapping[str, Any]) -> dict[str, Any] | None:
        """The Service that a Job's pods find one another by, if it is needed and not there."""
        service = peers.service(job)
        if service is None or job["metadata"].get("deletionTimestamp"):
            return None
        path = f"{_services(service)}/{service['metadata']['name']}"
        return service if self.get(path) is None else None

    def _events(self, about: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Events about an object, oldest first."""
        meta = about["metadata"]
        query = {"fieldSelector": f"involvedObject.uid={meta['uid']}"}
        path = f"/api/v1/namespaces/{meta['namespace']}/events"
        items: list[dict[str, Any]] = self.call("GET", path, query=query)["items"]
        return sorted(items, key=lambda event: event.get("lastTimestamp") or "")

    def create_job(self, manifest: Mapping[str, Any]) -> bool:
        """POST; False if a Job of that name exists already."""
        namespace = manifest["metadata"]["namespace"]
        return self._create(f"/apis/batch/v1/namespaces/{namespace}/jobs", manifest)

    def create_service(self, manifest: Mapping[str, Any]) -> bool:
        """POST; False if a Service of that name exists already."""
        return self._create(_services(manifest), manifest)

    def _create(self, path: str, manifest: Mapping[str, Any]) -> bool:
        try:
            self.call("POST", path, manifest)
        except ApiException as error:
            if error.status == 409:
                return False
            raise
        return True

    def delete_job(self, namespace: str, name: str) -> None:
        """Delete with its pods; one that is gone is fine."""
        try:
            self.call(
                "DELETE",
                f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}",
                {"propagationPolicy": "Foreground"},
            )
        except ApiException as error:
            if error.status != 404:
                raise

    @staticmethod
    def _path(kind: str, namespace: str, name: str) -> str:
        where = "" if kind in CLUSTER_SCOPED else f"namespaces/{namespace}/"
        return f"/apis/{GROUP}/{VERSION}/{where}{PLURALS[kind]}/{name}"


def _services(manifest: Mapping[str, Any]) -> str:
    return f"/api/v1/namespaces/{manifest['metadata']['namespace']}/services"


def _old(thing: Mapping[str, Any]) -> bool:
    created = datetime.fromisoformat(thing["metadata"]["creationTimestamp"])
    return (datetime.now(UTC) - created).total_seconds() > STARTING_SECONDS


def _stuck(pod: Mapping[str, Any]) -> bool:
    """Given a node, but not started."""
    assigned = bool(pod.get("spec", {}).get("nodeName"))
    return assigned and pod.get("status", {}).get("phase") == "Pending" and _old(pod)
