"""Argo CD's own code asked about resources: how it takes their health, and what its buttons do."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from argocd.configmap import render
from cluster import toolchain
from cluster.fixtures import ControlPlane

Json = dict[str, Any]

NAMESPACE = "argocd"
OTHERS = {"url": "https://argocd.example.com"}


class ArgoCD:
    """The ConfigMap of an installation that took over what we ship, and the code that reads it."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane

    def configure(self) -> None:
        """As docs/how-to/gitops.md says, over what its owner had set."""
        for manifest in (
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "argocd-cm", "namespace": NAMESPACE},
                "data": OTHERS,
            },
        ):
            self.plane.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
        patch = (f"-n={NAMESPACE}", "--type=merge", f"--patch={render()}")
        self.plane.kubectl("patch", "configmap", "argocd-cm", *patch)

    def judge(self, *resources: Json) -> list[Json]:
        """For each {health: {status, message}, actions: {name: {disabled, patch}}}."""
        done = subprocess.run(
            [str(toolchain.argo() / "argo"), str(self.plane.kubeconfig), NAMESPACE],
            input=json.dumps(resources),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        opinions: list[Json] = json.loads(done.stdout)
        return opinions
