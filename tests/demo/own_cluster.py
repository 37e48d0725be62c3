"""The cluster of this checkout: brought up, or used as it stands."""

from __future__ import annotations

import json
from pathlib import Path

from cluster import addons, lifecycle, state, store
from cluster.report import ClusterError

from demo.console import DemoError
from demo.ground import ROLES, Ground, Images, Keys, Store
from demo.kubectl import Tools


def kubeconfig() -> Path:
    """Where this checkout's cluster keeps its kubeconfig."""
    return state.folder() / "kubeconfig"


def start() -> Ground:
    """Bring the cluster up if it is not. Raises DemoError."""
    try:
        with state.command_lock():
            cluster = lifecycle.up()
    except ClusterError as error:
        raise DemoError(str(error)) from error
    keys = store.credentials(cluster.credentials)
    references = json.loads((cluster.folder / "images.json").read_text())
    return Ground(
        tools=Tools(
            str(cluster.folder / "bin" / "kubectl"),
            str(cluster.folder / "bin" / "helm"),
            cluster.kubeconfig,
        ),
        store=Store(
            endpoint=f"http://store.store.svc.cluster.local:{addons.STORE_PORT}",
            endpoint_here=cluster.store_endpoint,
            region=store.REGION,
            cidr=cluster.whole_cidr,
            port=str(addons.STORE_PORT),
            keys={role: Keys(keys[role].access_key, keys[role].secret_key) for role in ROLES},
        ),
        images=Images(operator=references["operator"], stage=references["stage"]),
        ours=True,
    )
