"""Every example is applied, to a real API server that asks the installed admission."""

from __future__ import annotations

import json
from pathlib import Path
from string import Template

import pytest
import yaml
from integration.admission.ground import ROOT, World
from palimpsest.api.budget import PrivacyBudgetSpec
from palimpsest.reconcile.adapter.ledgers import opening
from samples import Json

EXAMPLES = ROOT / "examples"
FOLDERS = [("production", "kinds"), ("quickstart",)]
KINDS = ["PrivacyBudget", "PrivateGenerator", "SyntheticDataset", "AlignmentRun"]
FILLED = {
    "GENERATOR_DIGEST": "sha256:" + "1" * 64,
    "EMBEDDER_DIGEST": "sha256:" + "2" * 64,
    "EVALUATION_DIGEST": "sha256:" + "3" * 64,
    "STORE_ENDPOINT": "http://10.0.0.9:9000",
    "STORE_REGION": "us-east-1",
    "STORE_CIDR": "10.0.0.9/32",
    "STORE_PORT": "9000",
}


def manifests(folder: Path) -> list[Json]:
    """The resources in a folder's files, those that others refer to first."""
    found = []
    for path in sorted(folder.glob("*.yaml")):
        documents = list(yaml.safe_load_all(Template(path.read_text()).substitute(FILLED)))
        found += [each for each in documents if "kind" in each]
    return sorted(found, key=lambda each: KINDS.index(each["kind"]))


@pytest.mark.parametrize("folders", FOLDERS, ids="-".join)
def test_examples_are_admitted_without_a_word(world: World, folders: tuple[str, ...]) -> None:
    kubectl = world.plane.kubectl
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "assistants", "labels": {"acme.example/team": "assistants"}},
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(namespace))
    applied = [each for folder in folders for each in manifests(EXAMPLES / folder)]
    assert len(applied) >= 4
    try:
        for each in applied:
            said = world.create(each, "--warnings-as-errors")
            assert "created" in said, said
    finally:
        for each in reversed(applied):
            each["metadata"].setdefault("annotations", {})["palimpsest.dev/confirm-delete"] = "true"
            kubectl("apply", "-f", "-", stdin=json.dumps(each), check=False)
            kubectl("delete", "-f", "-", "--ignore-not-found", stdin=json.dumps(each))


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("budget.yaml")), ids=str)
def test_the_plans_of_examples_fit_their_limits(path: Path) -> None:
    (budget,) = yaml.safe_load_all(Template(path.read_text()).substitute(FILLED))
    _, _, order = opening(PrivacyBudgetSpec.model_validate(budget["spec"]))
    assert order > 1


def test_every_kind_has_an_example() -> None:
    seen = {each["kind"] for folder in EXAMPLES.iterdir() for each in manifests(folder)}
    assert seen == set(KINDS)
