"""kube-score on what the chart renders: every finding is fixed, or excepted here with a reason."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
import yaml
from chart.test_templates import pick, rendered
from chart.variants import VARIANTS
from cluster import toolchain

Json = dict[str, Any]
OPERATOR, ADMISSION = "Deployment palimpsest-operator", "Deployment palimpsest-admission"
PODS = (OPERATOR, ADMISSION, "Job palimpsest-uninstall")
_BY_DIGEST = "images are named by digest: what a node has under it cannot be stale"
_THROTTLED = "a CPU limit throttles a burst of calibrations that the node has room for"
_JOBS = "for the pods of Jobs that the operator makes later"

# Of an object, by check.
EXCEPTED = {
    **{(each, "container-image-pull-policy"): _BY_DIGEST for each in PODS},
    **{(each, "container-resources"): _THROTTLED for each in PODS},
    (OPERATOR, "deployment-replicas"): "one reconciles, under a Lease; its Service is for metrics",
    (ADMISSION, "deployment-has-host-podantiaffinity"): "topologySpreadConstraints spread the pods",
    ("NetworkPolicy palimpsest-default-deny", "networkpolicy-targets-pod"): _JOBS,
    ("NetworkPolicy palimpsest-egress", "networkpolicy-targets-pod"): _JOBS,
    ("NetworkPolicy palimpsest-peers", "networkpolicy-targets-pod"): _JOBS,
}
# What an exception may cover: the rest of the same check is a finding still.
ALLOWED = {"container-resources": {"CPU limit is not set"}}


def findings(documents: list[Json]) -> dict[tuple[str, str], list[str]]:
    """What kube-score finds fault with: object, check, its words."""
    done = subprocess.run(
        [
            *(str(toolchain.checks() / "kube-score"), "score", "--kubernetes-version=v1.34"),
            *("--enable-optional-test=container-seccomp-profile", "--output-format=json"),
            *("--enable-optional-test=container-ports-check", "-"),
        ],
        input=yaml.safe_dump_all(documents),
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[tuple[str, str], list[str]] = {}
    for judged in json.loads(done.stdout):
        kind = judged["type_meta"]["kind"]
        for check in judged["checks"]:
            if check["skipped"] or check["grade"] == 10:
                continue
            said = [each["summary"] for each in check["comments"] or []]
            found[f"{kind} {judged['object_meta']['name']}", check["check"]["id"]] = said
    return found


def faults(documents: list[Json]) -> dict[tuple[str, str], list[str]]:
    """The findings that no exception covers."""
    return {
        where: said
        for where, said in findings(documents).items()
        if where not in EXCEPTED or set(said) - ALLOWED.get(where[1], set(said))
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_chart_has_no_fault(variant: str) -> None:
    assert faults(rendered(VARIANTS[variant])) == {}


def test_every_exception_is_still_needed() -> None:
    assert set(EXCEPTED) <= set(findings(rendered(VARIANTS["custody"])))


def test_a_bad_deployment_is_found() -> None:
    documents = rendered(VARIANTS["custody"])
    container = pick(documents, "Deployment", "palimpsest-admission")["spec"]["template"]["spec"][
        "containers"
    ][0]
    del container["readinessProbe"]
    container["securityContext"]["readOnlyRootFilesystem"] = False
    del container["resources"]["limits"]["memory"]
    assert {check for _, check in faults(documents)} == {
        "pod-probes",
        "container-security-context-readonlyrootfilesystem",
        "container-resources",
    }
