"""A real Prometheus that scrapes what a test runs, every second, with the chart's rules."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml
from cluster import packages
from cluster.fixtures import free_ports, process, wait_healthy

RULES = Path(__file__).parents[3] / "charts" / "palimpsest" / "files" / "rules.yaml"


@dataclass(frozen=True)
class Prometheus:
    """Its address."""

    url: str

    def figures(self, expression: str, seconds: float) -> list[float]:
        """What the expression was in the last seconds, of all its series; only what is a number.

        Raises HTTPError for one that does not parse.
        """
        end = time.time()
        asked = {"query": expression, "start": end - seconds, "end": end, "step": 1}
        told = self._ask("query_range", asked)["result"]
        values = [float(value) for series in told for _, value in series["values"]]
        return [value for value in values if math.isfinite(value)]

    def firing(self) -> set[str]:
        """The alerts that fire now."""
        told = self._ask("alerts", {})["alerts"]
        return {alert["labels"]["alertname"] for alert in told if alert["state"] == "firing"}

    def up(self) -> bool:
        """Whether all targets have been scraped."""
        told = self._ask("query", {"query": "up"})["result"]
        return bool(told) and all(series["value"][1] == "1" for series in told)

    def _ask(self, what: str, asked: Mapping[str, Any]) -> Any:
        with urlopen(f"{self.url}/api/v1/{what}?{urlencode(asked)}", timeout=30) as answer:
            return json.load(answer)["data"]


@contextmanager
def scraping(folder: Path, ports: Mapping[str, int], rules: Path = RULES) -> Iterator[Prometheus]:
    """Prometheus, while the block lasts; `ports` are where each job shows its metrics."""
    folder.mkdir()
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [
            {
                "job_name": job,
                "honor_labels": True,
                "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
            }
            for job, port in ports.items()
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    command = [
        str(packages.prometheus() / "prometheus"),
        f"--config.file={folder}/prometheus.yaml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with process(folder, "prometheus", command) as running:
        url = f"http://127.0.0.1:{port}"
        wait_healthy(f"{url}/-/ready", None, running, folder)
        yield Prometheus(url)
