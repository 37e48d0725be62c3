"""CustomResourceDefinitions from the models: `python -m palimpsest.api.crd DIR` writes them.

A structural schema knows no $ref, no anyOf with null, no numeric exclusive bounds and no titles,
and `const` reads enum; this turns pydantic's JSON Schema into one.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from . import GROUP, VERSION
from .alignment import AlignmentRun
from .budget import PrivacyBudget
from .common import rule
from .dataset import SyntheticDataset
from .generator import PrivateGenerator

Resource = (
    type[PrivacyBudget] | type[PrivateGenerator] | type[SyntheticDataset] | type[AlignmentRun]
)
RESOURCES: tuple[Resource, ...] = (PrivacyBudget, PrivateGenerator, SyntheticDataset, AlignmentRun)

# The observedGeneration of a resource that no operator has seen: no generation is negative.
UNSEEN = -1

# Of a label's value.
LONGEST_NAME = 63

_DROPPED = {"title", "discriminator", "additionalProperties", "propertyNames"}


def structural(node: Any, definitions: dict[str, Any]) -> Any:
    """The structural schema of a JSON Schema node."""
    if isinstance(node, list):
        return [structural(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[-1]]
        siblings = {key: value for key, value in node.items() if key != "$ref"}
        return structural({**target, **siblings}, definitions)
    if "anyOf" in node:
        options = [option for option in node["anyOf"] if option.get("type") != "null"]
        if len(options) != 1:
            raise ValueError(f"a union of {len(options)} types has no structural schema")
        siblings = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
        return structural({**options[0], **siblings}, definitions)
    result: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            result[key] = {name: structural(schema, definitions) for name, schema in value.items()}
        elif key == "additionalProperties" and isinstance(value, dict):
            result[key] = structural(value, definitions)
        elif key == "const":
            result["enum"] = [value]
        elif key == "default" and value is None:
            continue
        elif key == "items":
            items = structural(value, definitions)
            by_key = node.get("x-kubernetes-list-type") == "map"
            result[key] = items if by_key else _undefaulted(items)
        elif key not in _DROPPED:
            result[key] = value
    return result


def _undefaulted(schema: Any) -> Any:
    """The schema with its defaults in words: whoever reads fills them in.

    A list without keys is one value: an item that the API server filled in would be another value
    than the one in Git, which server-side apply refuses a second manager and Argo CD calls a drift.
    """
    if isinstance(schema, list):
        return [_undefaulted(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result = {
        key: {name: _undefaulted(each) for name, each in value.items()}
        if key == "properties"
        else _undefaulted(value)
        for key, value in schema.items()
        if key != "default"
    }
    if schema.get("default"):
        result["description"] = f"{schema['description']} Left out: {schema['default']}."
    return result


def _schema(resource: Resource) -> dict[str, Any]:
    raw = resource.model_json_schema(by_alias=True)
    schema: dict[str, Any] = structural(raw, raw.get("$defs", {}))
    schema.pop("$defs", None)
    schema["description"] = (sys.modules[resource.__module__].__doc__ or "").strip()
    schema["properties"] = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        **schema["properties"],
    }
    longest = f"metadata.name must have at most {LONGEST_NAME} characters: it labels Jobs and pods"
    schema["x-kubernetes-validations"] = [
        rule(f"self.metadata.name.size() <= {LONGEST_NAME}", longest)
    ]
    # The API server fills defaults of nested objects only where the object itself is present.
    schema["properties"]["spec"].setdefault("type", "object")
    # Without it kstatus takes a resource that no operator has seen yet for done.
    schema["properties"]["status"]["default"] = {"observedGeneration": UNSEEN}
    return schema


def definition(resource: Resource) -> dict[str, Any]:
    """The CustomResourceDefinition of a resource."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": resource.scope,
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "shortNames": resource.short_names,
                "categories": ["palimpsest"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": resource.columns,
                    "schema": {"openAPIV3Schema": _schema(resource)},
                }
            ],
        },
    }


class _Plain(yaml.SafeDumper):
    """Writes what is used twice twice: people read definitions, and few know YAML's aliases."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - as PyYAML has it
        return True


def render(resource: Resource) -> str:
    """The YAML that is checked in under crds/."""
    return "# Generated by `make crds` from operator/palimpsest/api; do not edit.\n" + yaml.dump(
        definition(resource), Dumper=_Plain, sort_keys=False, width=100, allow_unicode=True
    )


def write(directory: Path) -> None:
    """Write every definition to `directory/<plural>.yaml`."""
    directory.mkdir(parents=True, exist_ok=True)
    for resource in RESOURCES:
        (directory / f"{resource.plural}.yaml").write_text(render(resource))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="Write the CustomResourceDefinitions, in YAML.")
    arguments.add_argument("directory", type=Path)
    write(arguments.parse_args().directory)
