"""Where the demo runs: a cluster, an object store, images and parts; ours or the user's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from demo.console import DemoError
from demo.kubectl import Tools

ROLES = ("root", "custodian", "operator", "tenant")


@dataclass(frozen=True)
class Keys:
    """A store's keys for one role."""

    access_key: str
    secret_key: str = field(repr=False)


@dataclass(frozen=True)
class Store:
    """The object store as pods see it and as this process does."""

    endpoint: str
    endpoint_here: str
    region: str
    cidr: str
    port: str
    keys: Mapping[str, Keys] = field(repr=False)


@dataclass(frozen=True)
class Images:
    """The product's two images."""

    operator: str
    stage: str


@dataclass(frozen=True)
class Ground:
    """All that the demo stands on."""

    tools: Tools
    store: Store
    images: Images
    ours: bool


_VARIABLES = {
    "PALIMPSEST_OPERATOR_IMAGE": "the operator's image, as the cluster's nodes pull it",
    "PALIMPSEST_STAGE_IMAGE": "the stages' image, as the cluster's nodes pull it",
    "PALIMPSEST_STORE_ENDPOINT": "the object store's URL as pods reach it",
    **{
        f"PALIMPSEST_{role.upper()}_{key}": f"the {role}'s keys for the store"
        for role in ROLES
        for key in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
    },
}


def given(kubeconfig: Path, environment: Mapping[str, str] = os.environ) -> Ground:
    """The user's own cluster. Raises DemoError that lists every variable that is missing."""
    missing = [name for name in _VARIABLES if not environment.get(name)]
    if missing:
        listed = "\n".join(f"     {name}: {_VARIABLES[name]}" for name in missing)
        raise DemoError(
            "KUBECONFIG is set, so the demo uses that cluster and builds none. Please set also:\n"
            f"{listed}\n   The store needs the buckets private, releases, models and outputs. "
            "PALIMPSEST_STORE_ENDPOINT_HERE names it for this machine where that differs.\n"
            "   Unset KUBECONFIG to have a cluster made here."
        )
    if not kubeconfig.is_file():
        raise DemoError(f"KUBECONFIG names {kubeconfig}, which is no file")
    programs = {name: shutil.which(name) for name in ("kubectl", "helm")}
    for name, path in programs.items():
        if path is None:
            raise DemoError(f"no {name} on PATH: install it, or unset KUBECONFIG")
    endpoint = environment["PALIMPSEST_STORE_ENDPOINT"]
    return Ground(
        tools=Tools(str(programs["kubectl"]), str(programs["helm"]), kubeconfig),
        store=Store(
            endpoint=endpoint,
            endpoint_here=environment.get("PALIMPSEST_STORE_ENDPOINT_HERE", endpoint),
            region=environment.get("PALIMPSEST_STORE_REGION", "us-east-1"),
            cidr=environment.get("PALIMPSEST_STORE_CIDR", "0.0.0.0/0"),
            port=environment.get("PALIMPSEST_STORE_PORT", port_of(endpoint)),
            keys={
                role: Keys(
                    environment[f"PALIMPSEST_{role.upper()}_ACCESS_KEY_ID"],
                    environment[f"PALIMPSEST_{role.upper()}_SECRET_ACCESS_KEY"],
                )
                for role in ROLES
            },
        ),
        images=Images(
            environment["PALIMPSEST_OPERATOR_IMAGE"], environment["PALIMPSEST_STAGE_IMAGE"]
        ),
        ours=False,
    )


def port_of(endpoint: str) -> str:
    """The TCP port of a store's URL."""
    scheme, _, host = endpoint.partition("://")
    _, colon, port = host.rpartition(":")
    return port if colon else {"https": "443"}.get(scheme, "80")
