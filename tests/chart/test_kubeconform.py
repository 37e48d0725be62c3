"""kubeconform, strict, on what the chart renders and on the examples: no kind is skipped."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from chart import schemas
from chart.test_templates import pick, rendered
from chart.variants import VARIANTS
from cluster import toolchain
from demo import quickstart

EXAMPLES = Path(__file__).parents[2] / "examples"
# Values for helm are no manifests; the chart's own schema judges them.
MANIFESTS = sorted(path for path in EXAMPLES.rglob("*.yaml") if path.name != "values.yaml")
FILLED = {
    "STORE_ENDPOINT": "http://10.0.0.9:9000",
    "STORE_REGION": "us-east-1",
    "STORE_CIDR": "10.0.0.9/32",
    "STORE_PORT": "9000",
    "GENERATOR_DIGEST": "sha256:" + "1" * 64,
    "EMBEDDER_DIGEST": "sha256:" + "2" * 64,
    "EVALUATION_DIGEST": "sha256:" + "3" * 64,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("schemas")
    schemas.write(made)
    return made


def findings(folder: Path, text: str) -> list[str]:
    """What kubeconform says of a stream of documents; a kind it does not know is a finding."""
    done = subprocess.run(
        [
            *(str(toolchain.checks() / "kubeconform"), "-strict", "-output=json", "-verbose"),
            *(f"-schema-location={folder}/{schemas.LOCATION}", "-"),
        ],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    said = json.loads(done.stdout)["resources"]
    judged = [each for each in said if each["status"] != "statusEmpty"]
    assert len(judged) == len([each for each in yaml.safe_load_all(text) if each])
    return [
        f"{each['kind']} {each['name']}: {each['msg']}"
        for each in judged
        if each["status"] != "statusValid"
    ]


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_the_chart_renders_conforms(folder: Path, variant: str) -> None:
    assert findings(folder, yaml.safe_dump_all(rendered(VARIANTS[variant]))) == []


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_examples_conform(folder: Path, path: Path) -> None:
    assert findings(folder, quickstart.render(path.read_text(), FILLED)) == []


def test_wrong_manifests_are_found(folder: Path) -> None:
    documents = rendered(VARIANTS["cert-manager"])
    deployment = pick(documents, "Deployment", "palimpsest-operator")
    deployment["spec"]["template"]["spec"]["containers"][0]["imagePullPolcy"] = "Always"
    pick(documents, "Certificate", "palimpsest-admission-ca")["spec"]["isCA"] = "yes"
    pick(documents, "ValidatingWebhookConfiguration", "palimpsest-admission")["webhooks"][0].pop(
        "sideEffects"
    )
    budget = {
        "apiVersion": "palimpsest.dev/v1alpha1",
        "kind": "PrivacyBudget",
        "metadata": {"name": "wrong"},
        "spec": {"limit": {"epsilon": "eight"}},
    }
    unknown = {"apiVersion": "example.com/v1", "kind": "Unknown", "metadata": {"name": "x"}}
    found = findings(folder, yaml.safe_dump_all([*documents, budget, unknown]))
    assert len(found) == 5, found
    for part in (
        "imagePullPolcy",
        "Certificate palimpsest-admission-ca: ",
        "sideEffects",
        "PrivacyBudget wrong: ",
        "Unknown x: could not find schema",
    ):
        assert [each for each in found if part in each], (part, found)
