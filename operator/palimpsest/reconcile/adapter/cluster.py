"""The API server as the control loop uses it: few verbs, plain JSON, errors by status code."""

import json
from collections.abc import Mapping
from typing import Any

from kubernetes.client import ApiClient, CoordinationV1Api
from kubernetes.client.exceptions import ApiException

from palimpsest.api import GROUP, VERSION
from palimpsest.api.crd import RESOURCES
from palimpsest.reconcile.jobs import (
    LABEL_KIND,
    LABEL_NAME,
    LABEL_NAMESPACE,
    observe_job,
    observe_pod,
)
from palimpsest.reconcile.observed import Job, Meta

PLURALS = {resource.kind: resource.plural for resource in RESOURCES}
CLUSTER_SCOPED = {resource.kind for resource in RESOURCES if resource.scope == "Cluster"}
TIMEOUT = (5.0, 30.0)


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

    def resources(self, kind: str) -> list[dict[str, Any]]:
        """All resources of one of our kinds."""
        items: list[dict[str, Any]] = self.call("GET", f"/apis/{GROUP}/{VERSION}/{PLURALS[kind]}")[
            "items"
        ]
        return items

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
    ) -> None:
        """Replace the finalizers, fenced by the resourceVersion that was read."""
        meta = current["metadata"]
        body = {"metadata": {"finalizers": finalizers, "resourceVersion": meta["resourceVersion"]}}
        path = self._path(kind, meta.get("namespace", ""), meta["name"])
        try:
            self.call("PATCH", path, body, content_type="application/merge-patch+json")
        except ApiException as error:
            if error.status == 409:
                raise ConflictError from error
            if error.status != 404:
                raise

    def jobs(self, meta: Meta, namespace: str) -> tuple[Job, ...]:
        """The Jobs in `namespace` that carry the owner's labels, with their pods."""
        selector = {
            "labelSelector": f"{LABEL_KIND}={meta.kind},{LABEL_NAMESPACE}={meta.namespace},"
            f"{LABEL_NAME}={meta.name}"
        }
        jobs = self.call("GET", f"/apis/batch/v1/namespaces/{namespace}/jobs", query=selector)
        pods = self.call("GET", f"/api/v1/namespaces/{namespace}/pods", query=selector)
        by_job: dict[str, list[dict[str, Any]]] = {}
        for pod in pods["items"]:
            by_job.setdefault(pod["metadata"]["labels"].get("job-name", ""), []).append(pod)
        return tuple(
            observe_job(
                job,
                tuple(
                    observe_pod(pod)
                    for pod in sorted(
                        by_job.get(job["metadata"]["name"], []),
                        key=lambda pod: pod["metadata"]["creationTimestamp"],
                    )
                ),
            )
            for job in jobs["items"]
        )

    def create_job(self, manifest: Mapping[str, Any]) -> bool:
        """POST; False if a Job of that name exists already."""
        namespace = manifest["metadata"]["namespace"]
        try:
            self.call("POST", f"/apis/batch/v1/namespaces/{namespace}/jobs", manifest)
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
