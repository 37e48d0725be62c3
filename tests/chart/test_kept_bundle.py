"""helm keeps the caBundle that the operator wrote, whatever else an upgrade changes."""

import json
from collections.abc import Iterator

import pytest
from chart.test_kept_key import NO_NODE, helm
from chart.test_templates import CHART
from cluster.fixtures import ControlPlane

NAMESPACE = "kept-key"
HOOK = ("validatingwebhookconfiguration", "palimpsest-admission")


@pytest.fixture
def plane(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    control_plane.kubectl("create", "namespace", NAMESPACE)
    yield control_plane
    helm(control_plane, "uninstall", "bundle", "--ignore-not-found", NO_NODE)
    control_plane.kubectl("delete", "namespace", NAMESPACE)


def install(plane: ControlPlane, seconds: int) -> tuple[int, str | None]:
    """Install or upgrade; the webhook's timeout and caBundle afterwards."""
    given = ("--values", "-", "--set", f"admission.timeoutSeconds={seconds}")
    helm(plane, "upgrade", "--install", "bundle", str(CHART), "--no-hooks", *given)
    (hook,) = json.loads(plane.kubectl("get", *HOOK, "-o", "json"))["webhooks"]
    return hook["timeoutSeconds"], hook["clientConfig"].get("caBundle")


def test_an_upgrade_keeps_the_bundle(plane: ControlPlane) -> None:
    assert install(plane, 5) == (5, None)
    name = "validate.palimpsest.dev"
    patch = {"webhooks": [{"name": name, "clientConfig": {"caBundle": "Y2E="}}]}
    plane.kubectl("patch", *HOOK, "-p", json.dumps(patch))
    assert install(plane, 7) == (7, "Y2E=")
