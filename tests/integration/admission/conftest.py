"""The world that tests of admission start in."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest
import samples
from cluster.fixtures import ControlPlane
from integration.admission.ground import ROOT, Authority, World, eventually, running, webhook
from palimpsest.api.crd import RESOURCES


@pytest.fixture(scope="module")
def world(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    control_plane.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    control_plane.kubectl(
        "wait",
        "--for=condition=Established",
        *(f"crd/{resource.plural}.palimpsest.dev" for resource in RESOURCES),
    )
    mark = f"adm-{uuid.uuid4().hex[:6]}"
    control_plane.kubectl("create", "namespace", mark)
    authority = Authority()
    certificates = tmp_path_factory.mktemp("admission") / "certificates"
    authority.issue(certificates)
    with running(control_plane.kubeconfig, certificates) as server:
        eventually(lambda: server.probe("/readyz")[0] == 200, 10, "admission is ready")
        hook = webhook(server.port, authority.bundle)
        control_plane.kubectl("apply", "-f", "-", stdin=json.dumps(hook))
        world = World(control_plane, server, authority, mark)
        try:
            bad = samples.changed(samples.budget(), "spec.allowedNamespaces.names", ["custody"])
            eventually(
                lambda: "denied the request" in world.create(bad, "--dry-run=server"),
                15,
                "the API server asks the webhook",
            )
            yield world
        finally:
            control_plane.kubectl("delete", "-f", "-", stdin=json.dumps(hook))
