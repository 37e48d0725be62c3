"""The API server as a test asks it hundreds of times: a request costs a tenth of a kubectl."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubernetes.client.exceptions import ApiException
from kubernetes.config import new_client_from_config
from palimpsest.api import GROUP, VERSION
from palimpsest.api.crd import RESOURCES

Json = dict[str, Any]

OURS = f"/apis/{GROUP}/{VERSION}"
PLURALS = {resource.kind: resource.plural for resource in RESOURCES}
# By their names as kubectl takes them: the group's path, the plural, whether a namespace has them.
_KINDS = {
    **{
        name: (OURS, resource.plural, resource.scope == "Namespaced")
        for resource in RESOURCES
        for name in (*resource.short_names, resource.kind.lower())
    },
    "configmap": ("/api/v1", "configmaps", True),
    "lease": ("/apis/coordination.k8s.io/v1", "leases", True),
    "namespace": ("/api/v1", "namespaces", False),
    "quota": ("/api/v1", "resourcequotas", True),
    "secret": ("/api/v1", "secrets", True),
    "validatingwebhookconfiguration": (
        "/apis/admissionregistration.k8s.io/v1",
        "validatingwebhookconfigurations",
        False,
    ),
}
MERGE = "application/merge-patch+json"


class Kube:
    """Plain JSON calls. Not safe for threads."""

    def __init__(self, kubeconfig: Path) -> None:
        self._client = new_client_from_config(str(kubeconfig))

    def call(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        content: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Json:
        """One request's answer. Raises ApiException."""
        parameters = self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Content-Type": content, "Accept": "application/json"},
            body=body,
        )
        response = self._client.call_api(*parameters, _request_timeout=(5.0, 30.0))
        raw = response.read()
        if not 200 <= response.status <= 299:
            raise ApiException.from_response(http_resp=response, body=raw.decode(), data=None)
        answer: Json = json.loads(raw)
        return answer

    def get(self, path: str) -> Json | None:
        """An object; None if it is not there."""
        return self._unless(404, "GET", path)

    def items(self, path: str, labels: str = "") -> list[Json]:
        """A whole list, or what of it carries the labels."""
        query = {"labelSelector": labels} if labels else None
        items: list[Json] = self.call("GET", path, query=query)["items"]
        return items

    def create(self, path: str, manifest: Json) -> bool:
        """POST; False if it exists."""
        return self._unless(409, "POST", path, manifest) is not None

    def patch(self, path: str, body: Json) -> bool:
        """Merge; False if it is not there."""
        return self._unless(404, "PATCH", path, body, MERGE) is not None

    def delete(self, path: str, policy: str = "Background") -> bool:
        """DELETE; False if it is not there."""
        return self._unless(404, "DELETE", path, {"propagationPolicy": policy}) is not None

    def _unless(
        self,
        status: int,
        method: str,
        path: str,
        body: Json | None = None,
        content: str = "application/json",
    ) -> Json | None:
        try:
            return self.call(method, path, body, content)
        except ApiException as error:
            if error.status != status:
                raise
            return None


def named(what: str, name: str, namespace: str = "") -> str:
    """The path of an object by the name of its kind, short or long; as kubectl, a namespace is
    ignored where there is none."""
    group, plural, spaced = _KINDS[what.lower()]
    where = f"/namespaces/{namespace}" if spaced else ""
    return f"{group}{where}/{plural}/{name}"


def ours(kind: str, namespace: str = "", name: str = "") -> str:
    """The path of one of our resources, or of all of a kind in a namespace."""
    where = f"/namespaces/{namespace}" if namespace else ""
    return f"{OURS}{where}/{PLURALS[kind]}" + (f"/{name}" if name else "")


def jobs_in(namespace: str, name: str = "") -> str:
    """The path of Jobs."""
    return f"/apis/batch/v1/namespaces/{namespace}/jobs" + (f"/{name}" if name else "")


def pods_in(namespace: str, name: str = "") -> str:
    """The path of pods."""
    return f"/api/v1/namespaces/{namespace}/pods" + (f"/{name}" if name else "")


def conditions(thing: Json) -> set[str]:
    """The conditions that hold."""
    told = (thing.get("status") or {}).get("conditions") or []
    return {item["type"] for item in told if item["status"] == "True"}


def live_job(job: Json) -> bool:
    """Whether a Job has not ended."""
    return not conditions(job) & {"Complete", "Failed"}


def live_pod(pod: Json) -> bool:
    """Whether a pod may still work."""
    return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
