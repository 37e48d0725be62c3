"""The control plane that other tests stand on is a real one."""

from __future__ import annotations

import json
import time

from cluster.fixtures import ControlPlane


def test_it_serves_the_pinned_version(control_plane: ControlPlane) -> None:
    version = json.loads(control_plane.kubectl("version", "-o", "json"))
    assert version["serverVersion"]["gitVersion"] == "v1.34.4"


def test_admission_policies_are_served(control_plane: ControlPlane) -> None:
    assert "validatingadmissionpolicies" in control_plane.kubectl(
        "api-resources", "--api-group=admissionregistration.k8s.io", "-o", "name"
    )


def test_impersonation_answers_who_may_what(control_plane: ControlPlane) -> None:
    answer = control_plane.kubectl("auth", "can-i", "list", "secrets", "--as=nobody", check=False)
    assert answer.splitlines()[0] == "no"


def test_pod_security_denies_a_privileged_pod(control_plane: ControlPlane) -> None:
    control_plane.kubectl("create", "namespace", "restricted")
    label = "pod-security.kubernetes.io/enforce=restricted"
    control_plane.kubectl("label", "namespace", "restricted", label)
    # The pod's service account comes from the controller manager, a moment later.
    control_plane.kubectl(
        "-n", "restricted", "wait", "--for=create", "serviceaccount/default", "--timeout=30s"
    )
    said = control_plane.kubectl(
        "-n", "restricted", "run", "loud", "--image=none", "--privileged", check=False
    )
    assert "violates PodSecurity" in said


def test_namespaces_end(control_plane: ControlPlane) -> None:
    """The controller manager runs: it empties and removes a namespace."""
    control_plane.kubectl("create", "namespace", "short-lived")
    control_plane.kubectl("-n", "short-lived", "create", "configmap", "left-behind")
    control_plane.kubectl("delete", "namespace", "short-lived", "--wait=false")
    deadline = time.monotonic() + 30
    while "short-lived" in control_plane.kubectl("get", "namespaces", "-o", "name"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
