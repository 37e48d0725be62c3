"""Namespaces, Secrets and the chart."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from demo.console import DemoError, say
from demo.ground import Ground, Keys
from demo.kubectl import Tools, last_line

CHART = Path(__file__).parents[2] / "charts" / "palimpsest"
BUILD = Path(__file__).parents[2] / "build" / "demo"
SYSTEM = "palimpsest-system"
CUSTODY = "support-custody"
TENANT = "assistants"
RELEASE = "palimpsest"


def namespaces(tools: Tools) -> None:
    """The product's and the tenant's."""
    tools.apply(_namespace(SYSTEM) + _namespace(TENANT), "the namespaces")


def install(ground: Ground, cluster: str = "") -> None:
    """Install or upgrade the chart and put each role's keys where only it reads them.

    `cluster` is the chart's value of that name.
    """
    tools, keys = ground.tools, ground.store.keys
    namespaces(tools)
    tools.apply(_secret(SYSTEM, "palimpsest-store", keys["operator"]), "the operator's Secret")
    values = BUILD / "values.json"
    values.parent.mkdir(parents=True, exist_ok=True)
    values.write_text(json.dumps(chart_values(ground) | {"cluster": cluster}, indent=2))
    answer = tools.helm(
        *("upgrade", "--install", RELEASE, str(CHART), "--namespace", SYSTEM),
        *("--wait", "--timeout", "4m", "--values", str(values)),
        timeout=300,
    )
    if answer.code:
        pods = tools.kubectl("-n", SYSTEM, "get", "pods").out
        say(pods)
        raise DemoError(f"helm could not install the chart: {last_line(answer.err)}")
    tools.apply(
        _secret(CUSTODY, "custodian-store", keys["custodian"])
        + _secret(TENANT, "tenant-store", keys["tenant"]),
        "the custodian's and the tenant's Secrets",
    )


def receipt_keys(tools: Tools) -> dict[str, str]:
    """The public keys of receipts as the operator publishes them: PEM by file name."""
    found = tools.get("configmap", "palimpsest-receipt-keys", "-n", SYSTEM)
    return dict(found["data"])


def chart_values(ground: Ground) -> dict[str, Any]:
    """The chart's values for this ground."""
    store = ground.store
    egress = [{"cidr": store.cidr, "ports": [int(store.port)]}]
    return {
        "images": {
            "operator": ground.images.operator,
            "stage": ground.images.stage,
            "requireDigest": "@sha256:" in ground.images.stage,
        },
        "stores": [
            {
                "endpoint": store.endpoint,
                "region": store.region,
                "pathStyle": True,
                "secretName": "palimpsest-store",
            }
        ],
        "custody": {
            "namespaces": [
                {
                    "name": CUSTODY,
                    "create": True,
                    "serviceAccountName": "private-data",
                    "egress": egress,
                }
            ]
        },
        "admission": {"replicas": 1},
    }


def _namespace(name: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}) + "\n"


def _secret(namespace: str, name: str, keys: Keys) -> str:
    def encoded(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "data": {
            "AWS_ACCESS_KEY_ID": encoded(keys.access_key),
            "AWS_SECRET_ACCESS_KEY": encoded(keys.secret_key),
        },
    }
    return json.dumps(secret) + "\n"
