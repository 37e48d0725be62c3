"""The chart's dashboards, and what they ask of Prometheus."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from chart.test_templates import CHART

Json = dict[str, Any]

BOARDS: dict[str, Json] = {
    path.name: json.loads(path.read_text())
    for path in sorted((CHART / "files" / "dashboards").glob("*.json"))
}


def panels(board: Json) -> Iterator[Json]:
    """Those that show something."""
    return (panel for panel in board["panels"] if panel["type"] != "row")


def queries(board: Json) -> Iterator[str]:
    """The expressions of all panels, as Grafana has them."""
    return (target["expr"] for panel in panels(board) for target in panel["targets"])


def filled(query: str) -> str:
    """As Prometheus gets it where nothing is chosen, and a scrape a second is looked at."""
    for variable, value in (
        ("$__rate_interval", "20s"),
        ("$__range", "1m"),
        ("$namespace", ".*"),
        ("$privacybudget", ".*"),
        ("$name", ".*"),
    ):
        query = query.replace(variable, value)
    return query
