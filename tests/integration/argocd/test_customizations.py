"""Argo CD's own code, taught by our ConfigMap, says of our kinds what their tests beside say.

The tests lie in Argo CD's own layout (health_test.yaml, action_test.yaml), as its runner reads
them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from argocd.configmap import CUSTOMIZATIONS
from argocd.judge import NAMESPACE, OTHERS, ArgoCD
from integration.reconcile.harness import World
from integration.reconcile.kube import named
from palimpsest.api.crd import RESOURCES

Json = dict[str, Any]

KINDS = [resource.kind for resource in RESOURCES]
# Whatever runs nothing has nothing to suspend.
SUSPENDABLE = [resource.kind for resource in RESOURCES if resource.scope == "Namespaced"]


def told(path: Path) -> Json:
    document: Json = yaml.safe_load(path.read_text())
    return document


@pytest.mark.parametrize("kind", KINDS)
def test_health(argocd: ArgoCD, kind: str) -> None:
    folder = CUSTOMIZATIONS / kind
    cases = told(folder / "health_test.yaml")["tests"]
    opinions = argocd.judge(*(told(folder / case["inputPath"]) for case in cases))
    for case, opinion in zip(cases, opinions, strict=True):
        assert opinion["health"] == case["healthStatus"], case["inputPath"]
    # No recording without a word on what it means.
    inputs = {case["inputPath"] for case in cases}
    assert inputs == {f"testdata/{path.name}" for path in (folder / "testdata").iterdir()}


@pytest.mark.parametrize("kind", SUSPENDABLE)
def test_actions(argocd: ArgoCD, kind: str) -> None:
    folder = CUSTOMIZATIONS / kind / "actions"
    tests = told(folder / "action_test.yaml")
    for case in tests["discoveryTests"]:
        (opinion,) = argocd.judge(told(folder / case["inputPath"]))
        found = {name: action["disabled"] for name, action in opinion["actions"].items()}
        assert found == {each["name"]: each["disabled"] for each in case["result"]}
    acted = set()
    for case in tests["actionTests"]:
        before, after = told(folder / case["inputPath"]), told(folder / case["expectedOutputPath"])
        (opinion,) = argocd.judge(before)
        patch = opinion["actions"][case["action"]]["patch"]
        assert {**before, "spec": {**before["spec"], **patch.pop("spec")}} == after
        assert patch == {}
        acted.add(case["action"])
    assert acted == {script.parent.name for script in folder.glob("*/action.lua")}


def test_a_budget_offers_nothing_to_press(argocd: ArgoCD) -> None:
    budget = told(CUSTOMIZATIONS / "PrivacyBudget" / "testdata" / "ready.yaml")
    (opinion,) = argocd.judge(budget)
    assert opinion["actions"] == {}


def test_what_the_owner_of_the_configmap_had_set_stays(argocd: ArgoCD) -> None:
    found = argocd.plane.kubectl("get", "configmap", "argocd-cm", f"-n={NAMESPACE}", "-o=json")
    assert json.loads(found)["data"].items() > OTHERS.items()


def test_the_buttons_work_on_what_is_live_and_a_sync_leaves_them_pressed(
    argocd: ArgoCD, world: World
) -> None:
    # Nothing in Git says whether it is suspended.
    generator = world.private_generator()
    world.apply(world.privacy_budget())
    world.apply(generator)
    world.start()
    world.run_pods(world.job(world.custody, "train"))

    def live() -> Json:
        return world.get("pgen", "questions", world.tenant)

    for action, suspended in (("suspend", True), ("resume", False)):
        before = live()
        (opinion,) = argocd.judge(before)
        assert not opinion["actions"][action]["disabled"]
        patch = opinion["actions"][action]["patch"]
        assert patch == {"spec": {"suspend": suspended}}
        assert world.kube.patch(named("pgen", "questions", world.tenant), patch)
        world.apply(generator)
        assert live()["spec"] == {**before["spec"], "suspend": suspended}
        (opinion,) = argocd.judge(live())
        assert opinion["actions"][action]["disabled"]
