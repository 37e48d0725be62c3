"""The signing key that the chart made outlives upgrades, rotations and the release itself."""

import base64
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from chart.test_templates import CHART, values
from cluster import toolchain
from cluster.fixtures import ControlPlane

NAMESPACE = "kept-key"
SECRET = "palimpsest-receipt-key"
# The hook of an uninstall would wait for a node.
NO_NODE = "--no-hooks"


@pytest.fixture
def plane(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    control_plane.kubectl("create", "namespace", NAMESPACE)
    yield control_plane
    helm(control_plane, "uninstall", "kept", "--ignore-not-found", NO_NODE)
    control_plane.kubectl("delete", "namespace", NAMESPACE)


def helm(plane: ControlPlane, *arguments: str) -> None:
    program = [str(toolchain.tools() / "helm"), "--kubeconfig", str(plane.kubeconfig)]
    done = subprocess.run(
        [*program, "--namespace", NAMESPACE, *arguments],
        capture_output=True,
        text=True,
        check=False,
        input=json.dumps(values(crds={"enabled": False}, custody={"namespaces": []})),
    )
    assert done.returncode == 0, done.stderr


def install(plane: ControlPlane) -> dict[str, Any]:
    """Install or upgrade; the Secret's data afterwards."""
    helm(plane, "upgrade", "--install", "kept", str(CHART), "--no-hooks", "--values", "-")
    return data(plane)


def data(plane: ControlPlane) -> dict[str, Any]:
    found = json.loads(plane.kubectl("-n", NAMESPACE, "get", "secret", SECRET, "-o", "json"))
    kept: dict[str, Any] = found["data"]
    return kept


def test_the_key_is_kept(plane: ControlPlane) -> None:
    first = install(plane)
    assert list(first) == ["signing.pem"]
    assert install(plane) == first

    # A rotation by hand, with the retired key beside the new one.
    rotated = {"signing.pem": encoded("another key"), "2026-01.pub": encoded("the old one")}
    patch = json.dumps({"data": rotated})
    plane.kubectl("-n", NAMESPACE, "patch", "secret", SECRET, "--type=merge", "-p", patch)
    assert install(plane) == rotated

    helm(plane, "uninstall", "kept", NO_NODE)
    assert data(plane) == rotated
    assert install(plane) == rotated


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
