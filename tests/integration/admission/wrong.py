"""How a wrong manifest is put to the real API server, and what came back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import samples
from integration.admission.ground import World
from integration.reconcile.kube import ours
from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException
from kubernetes.config import new_client_from_config

BUDGET, NAMESPACE, NAME = "wrong-terms", "wrong-manifests", "wrong"
MAKERS = {
    "budget": samples.budget,
    "generator": samples.generator,
    "dataset": samples.dataset,
    "alignment": samples.alignment,
}


@dataclass(frozen=True)
class Wrong:
    """A good manifest of `kind` with fields changed (None: left out), and all that is said to it.

    With `later` the good manifest is there already and the change comes as an update of it.
    """

    kind: str
    changes: dict[str, Any]
    message: str
    later: bool = False


def good(kind: str) -> samples.Json:
    """The manifest that is bent; it goes with the budget of `settle`."""
    made = samples.budget(NAME, NAMESPACE) if kind == "budget" else MAKERS[kind](NAME, NAMESPACE)
    # Parts that the samples share must not change together.
    manifest: samples.Json = json.loads(json.dumps(made))
    if kind == "generator":
        manifest["spec"]["budgetRef"]["name"] = BUDGET
    return manifest


def bent(kind: str, changes: dict[str, Any]) -> samples.Json:
    """A copy of the good manifest with the changes."""
    manifest = good(kind)
    for path, value in changes.items():
        manifest = samples.changed(manifest, path, value)
    return manifest


class Server:
    """The API server, asked directly: one process for a hundred questions."""

    def __init__(self, world: World) -> None:
        self._client: ApiClient = new_client_from_config(str(world.plane.kubeconfig))

    def settle(self, world: World) -> None:
        """What the wrong manifests refer to: a namespace, a budget a tenth of which is left."""
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        world.plane.kubectl("apply", "-f", "-", stdin=json.dumps(namespace))
        manifest = samples.budget(BUDGET, NAMESPACE)
        manifest["spec"]["custodian"]["compute"] = {
            "maxResources": {"memory": "16Gi"},
            "nodeLabels": [{"key": "pool", "values": ["gpu"]}],
        }
        world.plane.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
        shares = {"committed": "0.9000", "reserved": "0.0000", "left": "0.1000"}
        status = {"status": {"observedGeneration": 1, "gateOrder": 4, "shares": shares}}
        world.plane.kubectl(
            *("patch", "privacybudget", BUDGET, "--subresource=status"),
            *("--type=merge", "-p", json.dumps(status)),
        )
        # Small enough to be admitted, so that the data set has something to name.
        small = samples.generator("questions", NAMESPACE, BUDGET, privacy={"epsilon": "1"})
        world.plane.kubectl("apply", "-f", "-", stdin=json.dumps(small))

    def ask(self, method: str, path: str, manifest: samples.Json | None, real: bool) -> str:
        """What the API server says against it; "" if nothing. Unknown fields count as wrong."""
        query = [("fieldValidation", "Strict")] + ([] if real else [("dryRun", "All")])
        parameters = self._client.param_serialize(
            method,
            path,
            query_params=query,
            header_params={"Content-Type": "application/json", "Accept": "application/json"},
            body=manifest,
            auth_settings=["BearerToken"],
        )
        response = self._client.call_api(*parameters)
        raw = response.read()
        if 200 <= response.status <= 299:
            return ""
        if response.status >= 500:
            raise ApiException.from_response(http_resp=response, body=raw.decode(), data=None)
        return str(json.loads(raw)["message"])

    def put_to(self, case: Wrong) -> str:
        """The answer to a case."""
        manifest = bent(case.kind, case.changes)
        path = _path(good(case.kind))
        if not case.later:
            return self.ask("POST", path, manifest, real=False)
        there = f"{path}/{NAME}"
        created = {**good(case.kind)}
        if case.kind == "generator":
            created = bent("generator", {"spec.privacy.epsilon": "1"})
            if "spec.privacy.epsilon" not in case.changes:
                manifest = samples.changed(manifest, "spec.privacy.epsilon", "1")
        said = self.ask("POST", path, created, real=True)
        assert not said, said
        try:
            return self.ask("PUT", there, self._at_present(there, manifest), real=False)
        finally:
            self.remove(good(case.kind))

    def create(self, manifest: samples.Json) -> str:
        """Create it for real; what is said against it."""
        return self.ask("POST", _path(manifest), manifest, real=True)

    def remove(self, manifest: samples.Json) -> None:
        """Delete it, with the custodian's word if it is a budget."""
        there = f"{_path(manifest)}/{manifest['metadata']['name']}"
        if manifest["kind"] == "PrivacyBudget":
            while self._confirm(there):
                pass
        self.ask("DELETE", there, None, real=True)

    def is_current(self, manifest: samples.Json) -> bool:
        """Whether its status speaks of its present spec."""
        found = self._read(f"{_path(manifest)}/{manifest['metadata']['name']}")
        told = found.get("status", {}).get("observedGeneration")
        return bool(told == found["metadata"]["generation"])

    def delete_budget(self) -> str:
        """The answer to the deletion of a budget without its custodian's word."""
        return self.ask(
            "DELETE", f"/apis/palimpsest.dev/v1alpha1/privacybudgets/{BUDGET}", None, False
        )

    def _at_present(self, path: str, manifest: samples.Json) -> samples.Json:
        version = self._read(path)["metadata"]["resourceVersion"]
        return {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": version}}

    def _confirm(self, path: str) -> str:
        manifest = self._read(path)
        manifest["metadata"]["annotations"] = {"palimpsest.dev/confirm-delete": "true"}
        return self.ask("PUT", path, manifest, real=True)

    def _read(self, path: str) -> samples.Json:
        parameters = self._client.param_serialize(
            "GET", path, header_params={"Accept": "application/json"}, auth_settings=["BearerToken"]
        )
        found: samples.Json = json.loads(self._client.call_api(*parameters).read())
        return found


def _path(manifest: samples.Json) -> str:
    return ours(manifest["kind"], manifest["metadata"].get("namespace", ""))
