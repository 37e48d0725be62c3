"""A real Prometheus that scrapes what a test runs, every second, with the chart's rules."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml
from cluster import packages
from cluster.cache import write_atomic
from cluster.fixtures import free_ports, process, wait_healthy
from demo.console import DemoError
from demo.kubectl import Tools

Json = dict[str, Any]
RULES = Path(__file__).parents[1] / "charts" / "palimpsest" / "files" / "rules.yaml"


@dataclass(frozen=True)
class Prometheus:
    """Its address."""

    url: str

    def figures(self, expression: str, seconds: float) -> list[float]:
        """What the expression was in the last seconds, of all its series; only what is a number.

        Raises HTTPError for one that does not parse.
        """
        return [value for series in self.series(expression, seconds) for value in series]

    def series(self, expression: str, seconds: float) -> list[list[float]]:
        """The same, each series for itself."""
        end = time.time()
        asked = {"query": expression, "start": end - seconds, "end": end, "step": 1}
        told = self._ask("query_range", asked)["result"]
        values = ([float(value) for _, value in series["values"]] for series in told)
        return [[value for value in each if math.isfinite(value)] for each in values]

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


def at_ports(ports: Mapping[str, int]) -> list[Json]:
    """Scrape configurations of processes here: where each job shows its metrics."""
    return [
        {
            "job_name": job,
            "honor_labels": True,
            "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
        }
        for job, port in ports.items()
    ]


@contextmanager
def of_pods(tools: Tools, namespace: str, folder: Path) -> Iterator[list[Json]]:
    """A scrape configuration of a namespace's pods, as the chart's PodMonitor has it.

    Debian's Prometheus is built without a way to ask Kubernetes: a thread does, every second.
    """
    listed, over = folder / "pods.json", threading.Event()
    listed.write_text("[]")

    def follow() -> None:
        while not over.wait(1):
            with suppress(DemoError):
                pods = tools.get("pods", "-n", namespace)["items"]
                write_atomic(listed, json.dumps([each for pod in pods for each in _targets(pod)]))

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield [
            {
                "job_name": "palimpsest",
                "honor_labels": True,
                "file_sd_configs": [{"files": [str(listed)]}],
            }
        ]
    finally:
        over.set()
        thread.join()


def _targets(pod: Json) -> Iterator[Json]:
    address, name = pod["status"].get("podIP"), pod["metadata"]["name"]
    for container in pod["spec"]["containers"]:
        for port in container.get("ports", []):
            if port.get("name") == "metrics" and address:
                where = f"{address}:{port['containerPort']}"
                yield {"targets": [where], "labels": {"pod": name}}


@contextmanager
def scraping(folder: Path, targets: list[Json], rules: Path = RULES) -> Iterator[Prometheus]:
    """Prometheus, while the block lasts; `targets` are its scrape configurations."""
    folder.mkdir()
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": targets,
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
