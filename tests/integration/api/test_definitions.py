"""The CustomResourceDefinitions as the real API server takes them."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import samples
import yaml
from cluster.fixtures import ControlPlane
from palimpsest.api import reference
from palimpsest.api.crd import RESOURCES, definition, render
from palimpsest.api.reference import fields

CRDS = Path(__file__).parents[3] / "crds"
KINDS = {resource.kind: resource for resource in RESOURCES}


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> ControlPlane:
    control_plane.kubectl("apply", "--server-side", "-f", str(CRDS))
    control_plane.kubectl(
        "wait",
        "--for=condition=Established",
        *(f"crd/{resource.plural}.palimpsest.dev" for resource in RESOURCES),
    )
    namespaces = control_plane.kubectl("get", "namespaces", "-o", "name")
    if "namespace/research\n" not in namespaces:
        control_plane.kubectl("create", "namespace", "research")
    return control_plane


@pytest.mark.parametrize("kind", KINDS)
def test_the_checked_in_definitions_are_the_generated_ones(kind: str) -> None:
    path = CRDS / f"{KINDS[kind].plural}.yaml"
    assert path.read_text() == render(KINDS[kind]), "run `make crds`"


def test_no_other_definition_is_checked_in() -> None:
    assert {path.stem for path in CRDS.iterdir()} == {each.plural for each in RESOURCES}


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_is_structural_and_nothing_in_it_is_ignored(
    api: ControlPlane, kind: str
) -> None:
    name = f"crd/{KINDS[kind].plural}.palimpsest.dev"
    found = yaml.safe_load(api.kubectl("get", name, "-o", "yaml"))
    conditions = {each["type"]: each["status"] for each in found["status"]["conditions"]}
    assert conditions["NamesAccepted"] == conditions["Established"] == "True"
    assert "NonStructuralSchema" not in conditions
    sent = yaml.safe_load(render(KINDS[kind]))["spec"]["versions"][0]["schema"]
    assert found["spec"]["versions"][0]["schema"] == sent


@pytest.mark.parametrize("kind", KINDS)
def test_kubectl_explain_teaches_every_field(kind: str) -> None:
    schema = definition(KINDS[kind])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    parts = [schema["properties"][part] for part in ("spec", "status")]
    told = [(path, field) for part in parts for path, _, field in fields(part)]
    assert len(told) > 20
    assert [path for path, field in told if not field.get("description")] == []


def test_the_reference_page_is_the_generated_one() -> None:
    page = CRDS.parent / "docs" / "api.md"
    assert page.read_text() == reference.render(), "run `make crds`"


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_the_spec_is_bounded(kind: str) -> None:
    """Strings and lists without a bound make CEL rules too dear and objects too large."""
    schema = yaml.safe_load(render(KINDS[kind]))["spec"]["versions"][0]["schema"]
    unbounded = list(_unbounded(schema["openAPIV3Schema"]["properties"]["spec"], "spec"))
    assert unbounded == []


def _unbounded(node: dict[str, Any], path: str) -> Iterator[str]:
    kind = node.get("type")
    if kind == "string" and not {"maxLength", "enum", "pattern"} & set(node):
        yield path
    if kind == "array":
        if "maxItems" not in node:
            yield path
        yield from _unbounded(node["items"], f"{path}[]")
    if kind == "object" and "additionalProperties" in node:
        if "maxProperties" not in node:
            yield path
        yield from _unbounded(node["additionalProperties"], f"{path}{{}}")
    for name, child in node.get("properties", {}).items():
        yield from _unbounded(child, f"{path}.{name}")


@pytest.mark.parametrize(
    ("field", "taught"),
    [
        ("privacybudget.spec.limit.epsilon", "may only be lowered"),
        ("privacybudget.spec.dataset.records", "it sets the sampling rate"),
        ("privategenerator.spec.privacy.epsilon", "epsilons do not add, shares do"),
        ("privategenerator.spec.training.restarts", "worst case is reserved up front"),
        ("syntheticdataset.spec.resampling.noiseMultiplier", "discrete Gaussian"),
        ("alignmentrun.spec.evaluation.prompts", "never the private data"),
        ("alignmentrun.spec.baseModel.digest", "no code of the model's is ever run"),
        ("syntheticdataset.spec.compute.sample.cache.hostPath", "baseline and restricted forbid"),
        ("syntheticdataset.spec.retainIntermediates", "What is deleted is not made again"),
        ("privacybudget.spec.custodian.compute.cache", "Tenants cannot choose one"),
    ],
)
def test_explain_teaches(api: ControlPlane, field: str, taught: str) -> None:
    text = " ".join(api.kubectl("explain", field).split())
    assert taught in text


GOOD = [
    pytest.param(samples.budget(), id="budget"),
    pytest.param(
        samples.budget(
            plan={
                "trainings": [{"epsilon": "3", "batchSize": 4096, "steps": 440, "count": 2}],
                "histograms": [{"noiseMultiplier": "10"}],
            }
        ),
        id="budget-with-plan",
    ),
    pytest.param(samples.generator(), id="generator"),
    pytest.param(
        samples.changed(samples.generator(), "spec.training", None), id="generator-of-defaults"
    ),
    pytest.param(samples.dataset(), id="dataset"),
    pytest.param(
        samples.changed(
            samples.changed(samples.dataset(), "spec.resampling", None), "spec.annotation", None
        ),
        id="dataset-of-the-pool-alone",
    ),
    pytest.param(samples.alignment(), id="alignment"),
]


@pytest.mark.parametrize("manifest", GOOD)
def test_good_manifests_are_taken(api: ControlPlane, manifest: samples.Json) -> None:
    api.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(manifest))


BUDGET, GENERATOR = samples.budget(), samples.generator()
DATASET, ALIGNMENT = samples.dataset(), samples.alignment()

# (manifest, path, value or None to remove, parts of the API server's answer)
WRONG: list[tuple[samples.Json, str, Any, tuple[str, ...]]] = [
    (BUDGET, "spec.limit.epsilon", "NaN", ("spec.limit.epsilon", "should match")),
    (BUDGET, "spec.limit.epsilon", "-8", ("spec.limit.epsilon", "should match")),
    (BUDGET, "spec.limit.epsilon", "1e400", ("spec.limit.epsilon", "should match")),
    (BUDGET, "spec.limit.epsilon", "٨", ("spec.limit.epsilon", "should match")),
    (BUDGET, "spec.limit.epsilon", "8" * 10_000, ("spec.limit.epsilon", "may not be more than")),
    (BUDGET, "spec.limit.epsilon", 8, ("spec.limit.epsilon", "must be of type string")),
    (BUDGET, "spec.limit.epsilon", None, ("spec.limit.epsilon", "Required value")),
    (BUDGET, "spec.limit.delta", "1e-5", ("spec.limit.delta must be below 1/records",)),
    (BUDGET, "spec.limit.delta", "1", ("spec.limit.delta", "should match")),
    (BUDGET, "spec.dataset.uri", "https://private/chat/", ("spec.dataset.uri", "should match")),
    (BUDGET, "spec.dataset.uri", "s3://private/chat", ("spec.dataset.uri", "should match")),
    (BUDGET, "spec.dataset.records", 0, ("spec.dataset.records", "greater than or equal to 100")),
    (BUDGET, "spec.dataset.format", "CSV", ("spec.dataset.format", 'supported values: "JSONL"')),
    (BUDGET, "spec.allowedModels", [], ("spec.allowedModels", "should have at least 1 items")),
    (
        BUDGET,
        "spec.allowedModels.0.digest",
        "sha256:abc",
        ("spec.allowedModels[0].digest", "should match"),
    ),
    (BUDGET, "spec.custodian.namespace", "Custody!", ("spec.custodian.namespace", "should match")),
    (BUDGET, "spec.seed", 7, ('unknown field "spec.seed"',)),
    (GENERATOR, "spec.budgetRef", None, ("spec.budgetRef", "Required value")),
    (GENERATOR, "spec.privacy.epsilon", "Infinity", ("spec.privacy.epsilon", "should match")),
    (GENERATOR, "spec.training.steps", 0, ("spec.training.steps", "greater than or equal to 1")),
    (
        GENERATOR,
        "spec.training.precision",
        "float16",
        ("spec.training.precision", 'supported values: "bfloat16", "float32"'),
    ),
    (GENERATOR, "spec.training.clippingNorm", "0", ("spec.training.clippingNorm", "should match")),
    (GENERATOR, "spec.image", "mine", ('unknown field "spec.image"',)),
    (
        DATASET,
        "spec.resampling.size",
        3001,
        ("spec.resampling.size is larger than spec.sampling.count",),
    ),
    (
        DATASET,
        "spec.resampling.clusters",
        3001,
        ("spec.resampling.clusters is larger than spec.sampling.count",),
    ),
    (DATASET, "spec.sampling.topP", "1.5", ("spec.sampling.topP", "should match")),
    (DATASET, "spec.resampling.noiseMultiplier", "0", ("noiseMultiplier", "should match")),
    (ALIGNMENT, "spec.method", "PPO", ("spec.method", "Unsupported value")),
    (ALIGNMENT, "spec.evaluation.digest", None, ("spec.evaluation.digest", "Required value")),
    (ALIGNMENT, "spec.rlhf", {"microBatchSize": 5}, ("spec.rlhf", "microBatchSize must divide")),
]


@pytest.mark.parametrize(
    ("manifest", "path", "value", "parts"),
    WRONG,
    ids=[f"{path}={str(value)[:20]}" for _, path, value, _ in WRONG],
)
def test_wrong_manifests_are_refused_by_name(
    api: ControlPlane, manifest: samples.Json, path: str, value: Any, parts: tuple[str, ...]
) -> None:
    text = json.dumps(samples.changed(manifest, path, value))
    answer = api.kubectl("create", "--dry-run=server", "-f", "-", stdin=text, check=False)
    assert not answer.startswith(manifest["kind"].lower())
    for part in parts:
        assert part in answer


# (manifest, path, value or None to remove, part of the answer; "" for one that is taken)
CHANGES: list[tuple[samples.Json, str, Any, str]] = [
    (BUDGET, "spec.limit.epsilon", "7.5", ""),
    (BUDGET, "spec.limit.epsilon", "8.5", "spec.limit.epsilon may only be lowered"),
    (BUDGET, "spec.limit.delta", "1e-7", "spec.limit.delta is immutable"),
    (BUDGET, "spec.dataset.records", 170_000, "spec.dataset is immutable"),
    (BUDGET, "spec.plan", {"histograms": [{"noiseMultiplier": "9"}]}, "spec.plan is immutable"),
    (BUDGET, "spec.allowedNamespaces.names", ["research", "search"], ""),
    (GENERATOR, "spec.suspend", True, ""),
    (GENERATOR, "spec.privacy.epsilon", "5", "spec.privacy is immutable"),
    (GENERATOR, "spec.training", None, "spec.training is immutable"),
    (GENERATOR, "spec.baseModel", samples.EMBEDDER, "spec.baseModel is immutable"),
    (DATASET, "spec.resampling", None, "spec.resampling is immutable"),
    (DATASET, "spec.sampling.count", 4000, "spec.sampling is immutable"),
    (ALIGNMENT, "spec.evaluation", None, "spec.evaluation is immutable"),
    # Whether intermediates are kept can be said until they are gone, and after.
    (DATASET, "spec.retainIntermediates", False, ""),
    (BUDGET, "spec.custodian.compute", {"cache": {"claimName": "models"}}, ""),
]


@pytest.mark.parametrize(
    ("manifest", "path", "value", "part"),
    CHANGES,
    ids=[f"{path}={str(value)[:20]}" for _, path, value, _ in CHANGES],
)
def test_what_is_spent_cannot_change(
    api: ControlPlane, manifest: samples.Json, path: str, value: Any, part: str
) -> None:
    named = samples.changed(manifest, "metadata.name", f"change-{uuid.uuid4().hex[:8]}")
    api.kubectl("create", "-f", "-", stdin=json.dumps(named))
    try:
        text = json.dumps(samples.changed(named, path, value))
        answer = api.kubectl("replace", "-f", "-", stdin=text, check=False)
        assert part in answer if part else answer.rstrip().endswith("replaced")
    finally:
        api.kubectl("delete", "-f", "-", "--wait=false", stdin=json.dumps(named))


ANSWERS = {"uri": "s3://outputs/answers.jsonl", "digest": samples.DIGEST}
OTHERS = {**ANSWERS, "uri": "s3://outputs/others.jsonl"}


def test_peoples_answers_may_come_once_and_nothing_else(api: ControlPlane) -> None:
    human: dict[str, Any] = {"human": {}, "systemPrompt": "Be brief."}
    named = samples.dataset(f"human-{uuid.uuid4().hex[:8]}", annotation=human)
    api.kubectl("create", "-f", "-", stdin=json.dumps(named))

    def replaced(annotation: dict[str, Any] | None) -> str:
        text = json.dumps(samples.changed(named, "spec.annotation", annotation))
        return api.kubectl("replace", "-f", "-", stdin=text, check=False)

    def refused(annotation: dict[str, Any] | None) -> bool:
        return "which may be set once" in replaced(annotation)

    for field, value in (("systemPrompt", "Be long."), ("answers", 3), ("temperature", "0.5")):
        assert refused({**human, field: value, "human": {"answers": ANSWERS}})
    assert refused({"model": samples.MODEL, "systemPrompt": "Be brief."})
    assert refused(None)
    given = {**human, "human": {"answers": ANSWERS}}
    assert replaced(given).rstrip().endswith("replaced")
    assert refused({**human, "human": {"answers": OTHERS}})
    assert refused(human)
    assert refused({"model": samples.MODEL, "systemPrompt": "Be brief."})
    assert replaced(given).rstrip().endswith("replaced")
    api.kubectl("delete", "-f", "-", "--wait=false", stdin=json.dumps(named))


def test_columns_answer_how_far_and_what_share(api: ControlPlane) -> None:
    name = f"columns-{uuid.uuid4().hex[:8]}"
    api.kubectl("create", "-f", "-", stdin=json.dumps(samples.budget(name)))
    try:
        header, row = api.kubectl("get", "privacybudget", name).splitlines()
        assert header.split()[1:3] == ["EPSILON", "DELTA"]
        assert {"COMMITTED", "RESERVED", "LEFT", "STATUS"} <= set(header.split())
        assert row.split()[1:3] == ["8", "1e-6"]
        assert name in api.kubectl("get", "palimpsest", "-A")
    finally:
        api.kubectl("delete", "privacybudget", name, "--wait=false")
