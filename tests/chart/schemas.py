"""JSON schemas for kubeconform, strict: of Kubernetes' kinds, our own, and those of cert-manager
and the Prometheus Operator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from cluster import toolchain
from palimpsest.api.crd import RESOURCES, render

Json = dict[str, Any]

# Where kubeconform looks for the schema of a kind.
LOCATION = "{{ .ResourceKind }}{{ .KindSuffix }}.json"
_SHARED = "_shared.json"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_INT_OR_STRING: Json = {"oneOf": [{"type": "string"}, {"type": "integer"}]}


def write(folder: Path) -> None:
    """One file a kind; what they share lies beside them."""
    source = toolchain.definitions()
    shared = json.loads((source / "swagger.json").read_text())["definitions"]
    strict = {name: _strict(schema) for name, schema in shared.items()}
    strict[_QUANTITY] = {"oneOf": [{"type": "string"}, {"type": "number"}]}
    (folder / _SHARED).write_text(json.dumps({"definitions": strict}))
    for name, schema in shared.items():
        for kind in schema.get("x-kubernetes-group-version-kind", []):
            # One schema may serve many kinds (DeleteOptions); none of those is a manifest.
            _save(folder, kind["group"], kind["version"], kind["kind"], _shared(name))
    texts = [path.read_text() for path in source.glob("*.yaml")]
    for text in (*texts, *(render(resource) for resource in RESOURCES)):
        for group, version, kind, schema in _defined(yaml.safe_load(text)):
            _save(folder, group, version, kind, schema)


def _shared(name: str) -> Json:
    return {"$ref": f"{_SHARED}#/definitions/{name}"}


def _save(folder: Path, group: str, version: str, kind: str, schema: Json) -> None:
    # As kubeconform names them: the group's first label alone.
    label = group.partition(".")[0]
    parts = [kind.lower(), *([label] if label else []), version]
    (folder / f"{'-'.join(parts)}.json").write_text(json.dumps(schema))


def _defined(definition: Json) -> Iterator[tuple[str, str, str, Json]]:
    spec = definition["spec"]
    for version in spec["versions"]:
        schema = _strict(version["schema"]["openAPIV3Schema"])
        own = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
        schema["properties"] = {**schema["properties"], **own, "metadata": _shared(_META)}
        yield spec["group"], version["name"], spec["names"]["kind"], schema


def _strict(schema: Any) -> Any:
    """The schema without room for fields it does not name."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string") is True or schema.get("format") == "int-or-string":
        return _INT_OR_STRING
    result = {key: _strict(value) for key, value in schema.items()}
    if isinstance(reference := schema.get("$ref"), str):
        return {"$ref": reference}
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") is True
    named = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if named and not open_ended:
        result.setdefault("additionalProperties", False)
    return result
