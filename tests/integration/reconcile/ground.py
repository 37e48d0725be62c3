"""Where sequences are played: one API server and one store, each behind a proxy that misbehaves."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cluster.fixtures import ControlPlane, ObjectStore
from faults import apiserver
from faults.apiserver import ApiProxy
from faults.proxy import Call, Exchange, Fault, Proxy
from integration.reconcile.harness import Json, World
from integration.reconcile.kube import jobs_in
from integration.reconcile.sequences import DATASETS, GENERATORS, LIMIT, RUNS, Target


@dataclass(frozen=True)
class Site:
    """What all sequences share."""

    plane: ControlPlane
    store: ObjectStore
    api: ApiProxy
    between: Proxy


class Ground(World):
    """The world of one sequence. The operator meets the proxies, the test goes past them."""

    def __init__(self, site: Site, folder: Path) -> None:
        proxied = ObjectStore(site.between.endpoint, site.store.credentials)
        super().__init__(site.plane, proxied, folder)
        self.behind = site.store
        self.site = site
        self.kubeconfig = site.api.kubeconfig(folder / "kubeconfig")
        self.operators = Operators(self)
        self.gate: Callable[[Json], None] = lambda _: None
        self._rule: Callable[[Call], Fault | None] = lambda _: None
        self._writing = threading.Lock()
        self.written: list[str] = []

    def prepare(self) -> None:
        """All but the definitions."""
        self.inhabit()
        self.configure()
        self.heal()

    def manifest(self, target: Target) -> Json:
        """A resource as its user wrote it."""
        kind, name = target
        if kind == "PrivateGenerator":
            return self.private_generator(name, GENERATORS[name])
        if kind == "SyntheticDataset":
            made = self.synthetic_dataset(name)
            made["spec"]["generatorRef"]["name"] = DATASETS[name]
            if name == "plain":
                del made["spec"]["resampling"]
            return made
        made = self.alignment_run(name)
        made["spec"]["datasetRef"]["name"] = RUNS[name]
        return made

    def budget_manifest(self) -> Json:
        """The custodian's."""
        return self.privacy_budget(LIMIT)

    # -- what goes wrong ---------------------------------------------------------------------

    def heal(self) -> None:
        """Nothing goes wrong any more."""
        self.misbehave(lambda _: None)
        self.site.between.watch()

    def misbehave(self, rule: Callable[[Call], Fault | None]) -> None:
        """What happens to the operator's calls of the API server: None passes."""
        self._rule = rule
        self.site.api.watch(self._judge)

    def _judge(self, call: Call) -> Fault:
        if call.writes and "/leases" not in call.path:
            with self._writing:
                self.written.append(f"{call.method} {call.path}")
        fault = self._rule(call) or apiserver.passed
        if call.method == "POST" and call.path.startswith(jobs_in(self.custody)):
            return _seen(fault, self.gate)
        return fault


def _seen(fault: Fault, gate: Callable[[Json], None]) -> Fault:
    """The fault, after the gate has seen the Job that is asked for."""

    async def judged(exchange: Exchange) -> None:
        await asyncio.to_thread(gate, json.loads(exchange.body))
        await fault(exchange)

    return judged


class Operators:
    """The installed operator's processes; the kubelet's part is to start again what ended."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._name = "operator-0"
        self._running: subprocess.Popen[bytes] | None = None
        self._leaving: list[subprocess.Popen[bytes]] = []
        self.since = time.monotonic()
        self.ended_alone = 0

    def start(self) -> None:
        """Start the one that acts."""
        self._running = self._ground.launch(self._name)
        self.since = time.monotonic()

    def kill(self) -> None:
        """SIGKILL, and another with the same name."""
        if self._running is not None:
            _end(self._running)
        self.start()

    def roll(self) -> None:
        """A second one comes while the first is there; then the first is asked to go."""
        before = self._running
        self._name = "operator-1" if self._name == "operator-0" else "operator-0"
        self.start()
        if before is not None:
            before.send_signal(signal.SIGTERM)
            self._leaving.append(before)

    def mend(self) -> None:
        """Start again what ended by itself."""
        if self._running is not None and self._running.poll() is not None:
            self.ended_alone += 1
            self.start()

    def stop(self) -> None:
        """End all."""
        for process in (*self._leaving, *([self._running] if self._running else [])):
            _end(process)
        self._leaving, self._running = [], None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(timeout=30)
