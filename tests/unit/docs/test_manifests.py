"""Every YAML block of the documentation is one that the API, or the chart, takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart.values_page import schema as values_schema
from palimpsest.api import GROUP
from palimpsest.api.crd import RESOURCES, definition
from unit.docs.pages import ALL, Block, blocks, name

Json = dict[str, Any]

KINDS = {resource.kind: resource for resource in RESOURCES}
DIGEST = "sha256:" + "0" * 64
# What stands for what the reader has: a placeholder of examples/quickstart, a digest cut short.
FILLED = {
    "STORE_ENDPOINT": "http://10.0.0.9:9000",
    "STORE_REGION": "us-east-1",
    "STORE_CIDR": "10.0.0.9/32",
    "STORE_PORT": "9000",
    "GENERATOR_DIGEST": DIGEST,
    "EMBEDDER_DIGEST": DIGEST,
    "EVALUATION_DIGEST": DIGEST,
}


def documents(block: Block) -> list[Any]:
    text = re.sub(r"\$\{(\w+)\}", lambda match: FILLED[match[1]], block.text)
    return [each for each in yaml.safe_load_all(text.replace("sha256:...", DIGEST)) if each]


def schemas(node: Any) -> Iterator[Json]:
    """Every object's schema in a schema."""
    if isinstance(node, dict):
        if isinstance(node.get("properties"), dict):
            yield node
        for value in node.values():
            yield from schemas(value)


PLACES = [
    *(
        place
        for resource in RESOURCES
        for place in schemas(definition(resource)["spec"]["versions"][0]["schema"])
    ),
    *schemas(values_schema()),
]


def fits(value: Any, schema: Json) -> bool:
    """Whether a part of a manifest, fields left out, may stand where the schema describes."""
    if "enum" in schema:
        return value in schema["enum"]
    if isinstance(value, dict):
        named = schema.get("properties")
        if named is None:
            return schema.get("type") == "object"
        return all(key in named and fits(each, named[key]) for key, each in value.items())
    if isinstance(value, list):
        return schema.get("type") == "array" and all(fits(each, schema["items"]) for each in value)
    return schema.get("type") not in ("object", "array")


def refused(document: Any) -> str:
    """Why nobody takes the document; "" if it is taken, or another program's."""
    version = document.get("apiVersion", "") if isinstance(document, dict) else ""
    if version.startswith(f"{GROUP}/"):
        try:
            KINDS[document["kind"]].model_validate(
                {key: document[key] for key in ("spec", "status") if key in document}
            )
        except ValueError as error:
            return str(error)
        return ""
    if version or any(fits(document, place) for place in PLACES):
        return ""
    return f"no resource and no value of the chart has such a part: {json.dumps(document)}"


def yaml_blocks(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language in ("yaml", "yml")]


@pytest.mark.parametrize("page", [page for page in ALL if yaml_blocks(page)], ids=name)
def test_manifests_and_parts_of_them_are_taken(page: Path) -> None:
    for block in yaml_blocks(page):
        found = documents(block)
        assert found, block
        for document in found:
            assert refused(document) == "", block.text


def test_there_are_manifests_to_check() -> None:
    whole = [
        document["kind"]
        for page in ALL
        for block in yaml_blocks(page)
        for document in documents(block)
        if document.get("apiVersion", "").startswith(f"{GROUP}/")
    ]
    assert set(whole) == set(KINDS)


@pytest.mark.parametrize(
    "text",
    [
        "compute: {resources: {requets: {cpu: 1}}}",
        "custody: {jobWriter: []}",
        "dataset: {format: CSV}",
        "custodian: [support]",
        f"apiVersion: {GROUP}/v1alpha1\nkind: PrivacyBudget\nspec: {{}}",
    ],
)
def test_a_wrong_manifest_is_found(text: str) -> None:
    assert refused(yaml.safe_load(text))
