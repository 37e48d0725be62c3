"""Wrong turns in a manifest, made at random from a seed."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from random import Random
from typing import Any

import samples
from integration.admission.wrong import good

ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    1,
    -1,
    2**31,
    2**63 - 1,
    10**30,
    0.1,
    1e308,
    "",
    " ",
    "0",
    "1",
    "3",
    "0.3",
    "NaN",
    "-0",
    "1e-6",
    "1e-400",
    "999999.999999999999",
    "0.000000000001",
    "s3://private/wrong/",
    "s3://private/",
    "s3://releases/x/../y/",
    "s3://a--b/./",
    "\u202eepsilon\u0000",
    "\U0001f512" * 40,
    "x" * 5000,
    "hf://acme/tiny",
    "pvc://models/tiny/",
    "c" * 40,
    "24h",
    "8Gi",
    "sha256:" + "a" * 64,
    "wrong-terms",
    "wrong-manifests",
    "custody",
    [],
    {},
    [None],
    [[]],
    {"": ""},
    {"matchLabels": {"a": "b"}},
    [{"uri": "s3://models/generator/", "digest": "sha256:" + "a" * 64}],
    {"default": {"tolerations": [{"operator": "Exists"}]}},
    {"cache": {"claimName": "models"}},
    {"default": {"cache": {"hostPath": "/var/cache/models"}}},
    {"uri": "hf://acme/tiny", "revision": "c" * 40, "digest": "sha256:" + "a" * 64},
    {"uri": "pvc://models/tiny/", "digest": "sha256:" + "a" * 64},
)


def mutant(random: Random, name: str) -> samples.Json:
    """One to three changes of a good manifest of any kind, called `name`."""
    kind = random.choice(("budget", "generator", "dataset", "alignment"))
    manifest = good(kind)
    manifest["metadata"]["name"] = name
    if kind == "budget":
        manifest["spec"]["dataset"]["uri"] = f"s3://private/{name}/"
        manifest["spec"]["releases"]["uri"] = f"s3://releases/{name}/"
    if kind == "generator":
        manifest["spec"]["privacy"]["epsilon"] = random.choice(("0.5", "1", "2", "4"))
        manifest["spec"]["suspend"] = random.random() < 0.5
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        _change(random, manifest)
    return manifest


def _change(random: Random, manifest: samples.Json) -> None:
    node, key = random.choice(list(_places(manifest["spec"])))
    match random.randrange(6):
        case 0:
            del node[key]
        case 1:
            node[key] = _odd(random)
        case 2:
            other, name = random.choice(list(_places(manifest["spec"])))
            node[key] = json.loads(json.dumps(other[name]))
        case 3 if isinstance(node, dict):
            node[random.choice((f"{key}X", key.upper(), "unknown"))] = _odd(random)
        case 4 if isinstance(node[key], int) and not isinstance(node[key], bool):
            node[key] = random.choice((node[key] + 1, node[key] * 1000, -node[key], 10_000_000))
        case 5 if isinstance(node[key], str):
            node[key] = random.choice((node[key] + "0", node[key][:-1], node[key].upper()))
        case _:
            node[key] = _odd(random)


def _odd(random: Random) -> Any:
    return copy.deepcopy(random.choice(ODD))


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every container below `node` with each of its keys or indices."""
    keys: list[Any] = []
    if isinstance(node, dict):
        keys = list(node)
    elif isinstance(node, list):
        keys = list(range(len(node)))
    for key in keys:
        yield node, key
        yield from _places(node[key])
