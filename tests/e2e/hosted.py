"""The installed operator beside the node, where a test sees its every call and can kill it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from cluster.fixtures import free_ports
from demo import install
from demo.ground import Ground
from faults import apiserver
from faults.apiserver import ApiProxy
from faults.forward import ForwardProxy
from faults.proxy import Call, Exchange, Fault, Rule, passed

OPERATOR = f"system:serviceaccount:{install.SYSTEM}:palimpsest-operator"
DEPLOYMENT = "deployment/palimpsest-operator"


@dataclass(frozen=True)
class Write:
    """Something that others can see: a write of the operator's that was accepted."""

    system: str
    method: str
    path: str
    body: bytes = field(repr=False)


class Hosted:
    """The process, in the name and with the configuration of the chart's operator."""

    def __init__(self, ground: Ground, folder: Path, api: ApiProxy, store: ForwardProxy) -> None:
        self.folder = folder
        self._api, self._store = api, store
        self._running: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()
        tools = ground.tools
        found = tools.get("configmap", "palimpsest-operator", "-n", install.SYSTEM)
        config = yaml.safe_load(found["data"]["config.yaml"])
        for index, each in enumerate(config["stores"]):
            each["credentials"] = str(folder / f"store-{index}")
            _unpack(tools.get("secret", "palimpsest-store", "-n", install.SYSTEM), each)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        keys = {"credentials": str(folder / "receipts")}
        _unpack(tools.get("secret", "palimpsest-receipt-key", "-n", install.SYSTEM), keys)

    def start(self) -> None:
        """Start it."""
        metrics, probes = free_ports(2)
        with (self.folder / "operator.log").open("ab") as log:
            self._running = subprocess.Popen(
                [
                    str(Path(sys.executable).with_name("palimpsest")),
                    *("operator", f"--receipt-keys={self.folder / 'receipts'}"),
                ],
                env={
                    **os.environ,
                    "KUBECONFIG": str(self._api.kubeconfig(self.folder / "kubeconfig")),
                    "PALIMPSEST_CONFIG": str(self.folder / "config.yaml"),
                    "PALIMPSEST_METRICS_PORT": str(metrics),
                    "PALIMPSEST_PROBES_PORT": str(probes),
                    "POD_NAME": "palimpsest-operator-hosted",
                    "HTTP_PROXY": self._store.endpoint,
                    "http_proxy": self._store.endpoint,
                    "NO_PROXY": "127.0.0.1",
                    "no_proxy": "127.0.0.1",
                },
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """SIGKILL, and another of the same name."""
        with self._turn:
            self.stop()
            self.start()

    def stop(self) -> None:
        """SIGKILL."""
        if self._running is not None:
            self._running.kill()
            self._running.wait(timeout=30)


class Killer:
    """Kills the operator once after each write that `wanted` names."""

    def __init__(self, operator: Hosted, wanted: Callable[[Write], str]) -> None:
        """`wanted` gives the name of a write to kill after, "" for none."""
        self._operator = operator
        self._wanted = wanted
        self.writes: list[Write] = []
        self.kills: dict[str, Write] = {}

    def rule(self, system: str, otherwise: Fault) -> Rule:
        """For the proxy before the system so called."""

        def judged(call: Call) -> Fault:
            path = urlsplit(call.path).path
            quiet = "/leases" in path or "/events" in path or "reviews" in path
            if not call.writes or quiet:
                return otherwise

            async def fault(exchange: Exchange) -> None:
                answer = await exchange.forward()
                if int(answer.first[1]) >= 300:
                    await exchange.answer(answer.bytes)
                    return
                write = Write(system, call.method, path, exchange.body)
                self.writes.append(write)
                name = self._wanted(write)
                if not name or name in self.kills:
                    await exchange.answer(answer.bytes)
                    return
                self.kills[name] = write
                await asyncio.to_thread(self._operator.kill)
                exchange.hang_up()

            return fault

        return judged

    def jobs(self) -> list[str]:
        """Names of the Jobs that were made, in order."""
        return [
            str(json.loads(write.body)["metadata"]["name"])
            for write in self.writes
            if write.method == "POST" and write.path.endswith("/jobs")
        ]


@contextmanager
def hosted(ground: Ground, folder: Path, wanted: Callable[[Write], str]) -> Iterator[Killer]:
    """The chart's operator gives place to this one while the block lasts."""
    tools = ground.tools
    with (
        ApiProxy(tools.kubeconfig, OPERATOR) as api,
        ForwardProxy(ground.store.endpoint_here) as store,
    ):
        operator = Hosted(ground, folder, api, store)
        killer = Killer(operator, wanted)
        api.watch(killer.rule("api", apiserver.passed))
        store.watch(killer.rule("store", passed))
        _scale(ground, 0)
        operator.start()
        try:
            yield killer
        finally:
            operator.stop()
            _scale(ground, 1)


def _scale(ground: Ground, replicas: int) -> None:
    tools, system = ground.tools, ("-n", install.SYSTEM)
    tools.kubectl(*system, "scale", DEPLOYMENT, f"--replicas={replicas}")
    if replicas:
        tools.kubectl(*system, "rollout", "status", DEPLOYMENT, "--timeout=120s")
        return
    selector = "app.kubernetes.io/component=operator"
    deadline = time.monotonic() + 60
    while tools.get("pods", *system, "-l", selector)["items"]:
        assert time.monotonic() < deadline, "the chart's operator does not go"
        time.sleep(0.5)


def _unpack(secret: dict[str, object], into: dict[str, str]) -> None:
    target = Path(into["credentials"])
    target.mkdir(parents=True, exist_ok=True)
    data = secret["data"]
    assert isinstance(data, dict)
    for name, value in data.items():
        (target / name).write_bytes(base64.b64decode(value))
