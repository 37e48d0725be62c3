"""A thousand resources in one world, and what can be measured of its operator."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import linear_regression
from typing import Any, Literal

from cluster.fixtures import ControlPlane, ObjectStore
from integration.reconcile.harness import World
from integration.scale import ledgers
from kubernetes.client import CustomObjectsApi
from kubernetes.config import new_client_from_config
from palimpsest.reconcile.adapter.lease import NAME, RENEW_SECONDS
from processes import memory, processor_seconds
from prometheus_client.parser import text_string_to_metric_families

GROUP, VERSION = "palimpsest.dev", "v1alpha1"
EACH = 333
RESOURCES = 3 * EACH + 1
ENTRIES = 1_000
RECONCILES = 10_000
# A relist of everything and a refresh of the budget, each every 300 s, fall within it.
QUIET_SECONDS = 320
MOST_MEGABYTES = 150
# Of a processor, while all is quiet: what the chart requests.
MOST_MILLIS = 50
# MB a thousand reconciles. Each pass over everything may leave some arenas behind; many may not
# leave more.
MOST_SLOPE = 1.5
WRITES = ("POST", "PUT", "PATCH", "APPLY", "DELETE")
LEASES = "coordination.k8s.io/leases"
# The controller manager's own (--use-service-account-credentials), anew every hour or so.
CONTROLLERS_TOKENS = "/serviceaccounts/token"


@dataclass(frozen=True)
class Growth:
    """The operator's memory in MB: the most it ever took, and how it grew with its reconciles.

    `milliseconds` of a processor went into each of these, with all that led to it.
    """

    peak: float
    slope: float
    """MB a thousand reconciles, by least squares."""
    reconciles: int
    first: float
    last: float
    milliseconds: float


@dataclass(frozen=True)
class Quiet:
    """What the API server was asked to write, by whomever: Leases (as often), and other things.

    `renewed`: the operator's own Lease was among them to the end. `millis`: thousandths of a
    processor that it took.
    """

    seconds: float
    leases: int
    others: dict[str, int]
    renewed: bool
    millis: float


class Crowd:
    """Generators that are suspended, data sets and runs that wait, one budget."""

    def __init__(self, world: World) -> None:
        self.world = world
        client = new_client_from_config(str(world.plane.kubeconfig))
        client.configuration.connection_pool_maxsize = 8
        self.objects = CustomObjectsApi(client)

    def names(self) -> list[tuple[str, str]]:
        """Plural and name of every resource in the tenant's namespace."""
        kinds = ("privategenerators", "syntheticdatasets", "alignmentruns")
        return [(kind, f"r-{index}") for kind in kinds for index in range(EACH)]

    def create(self) -> None:
        """Each generator suspended, each data set and run waiting for what it names."""
        for kind, make in (
            ("privategenerators", self._generator),
            ("syntheticdatasets", self._dataset),
            ("alignmentruns", self._run),
        ):
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda n, k=kind, m=make: self._post(k, m(f"r-{n}")), range(EACH)))

    def settled(self) -> bool:
        """Whether every status speaks of the present spec."""
        for kind in ("privategenerators", "syntheticdatasets", "alignmentruns"):
            found = self.objects.list_namespaced_custom_object(
                GROUP, VERSION, self.world.tenant, kind
            )
            for item in found["items"]:
                told = item.get("status", {}).get("observedGeneration")
                if told != item["metadata"]["generation"]:
                    return False
        return True

    def growth(self, reconciles: int = RECONCILES) -> Growth:
        """Have all resources reconciled again and again, and see the memory after each round."""
        self._round("warm")
        begun, spent = self._reconciles(), self._processor()
        points = [(0.0, self._megabytes("VmRSS"))]
        while points[-1][0] < reconciles:
            self._round(str(len(points)))
            points.append((self._reconciles() - begun, self._megabytes("VmRSS")))
        counts, memory = zip(*points, strict=True)
        return Growth(
            peak=self._megabytes("VmHWM"),
            slope=1e3 * linear_regression(counts, memory).slope,
            reconciles=int(counts[-1]),
            first=memory[0],
            last=memory[-1],
            milliseconds=1e3 * (self._processor() - spent) / counts[-1],
        )

    def quiet(self, seconds: float = QUIET_SECONDS) -> Quiet:
        """Leave everything alone and see what is written all the same."""
        self._idle()
        before, spent, began = self._writes(), self._processor(), time.monotonic()
        time.sleep(seconds)
        written = self._writes()
        written.subtract(before)
        lasted = time.monotonic() - began
        return Quiet(
            seconds=lasted,
            leases=written.pop(LEASES, 0),
            others={name: count for name, count in written.items() if count},
            renewed=self._lease_age() < 2 * RENEW_SECONDS,
            millis=1e3 * (self._processor() - spent) / lasted,
        )

    def _round(self, value: str) -> None:
        """Change an annotation of everything: each is reconciled, and nothing comes of it."""
        body = {"metadata": {"annotations": {"poked": value}}}

        def one(which: tuple[str, str]) -> None:
            self.objects.patch_namespaced_custom_object(
                GROUP, VERSION, self.world.tenant, *which, body
            )

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(one, self.names()))
        self._idle()

    def _idle(self) -> None:
        """Wait until no key waits and none was worked on for a second."""

        def still() -> bool:
            before = self._reconciles()
            time.sleep(1)
            return self._sum("palimpsest_workqueue_depth") == 0 and self._reconciles() == before

        self.world.until("the operator is idle", still, 300)

    def _megabytes(self, line: Literal["VmRSS", "VmHWM"]) -> float:
        """Of the operator's process."""
        operator = self.world.operator
        assert operator is not None
        return memory(operator.pid, line) / 1e6

    def _processor(self) -> float:
        """Seconds of a processor that the operator has taken."""
        operator = self.world.operator
        assert operator is not None
        return processor_seconds(operator.pid)

    def _reconciles(self) -> float:
        return self._sum("palimpsest_controller_reconcile_time_seconds_count")

    def _sum(self, name: str) -> float:
        """Over all labels of one of the operator's metrics."""
        return sum(sample.value for sample in self.world.samples() if sample.name == name)

    def _writes(self) -> Counter[str]:
        """How often the API server was asked to write so far, by whomever, by resource."""
        found: Counter[str] = Counter()
        told = self.world.plane.kubectl("get", "--raw", "/metrics")
        for family in text_string_to_metric_families(told):
            for sample in family.samples:
                labels = sample.labels
                if sample.name == "apiserver_request_total" and labels["verb"] in WRITES:
                    parts = (labels["group"], labels["resource"], labels["subresource"])
                    found["/".join(parts).rstrip("/")] += int(sample.value)
        del found[CONTROLLERS_TOKENS]
        return found

    def _lease_age(self) -> float:
        """Seconds since the operator renewed its Lease."""
        lease = self.world.get("lease", NAME, self.world.tenant)
        renewed = datetime.fromisoformat(lease["spec"]["renewTime"])
        return (datetime.now(UTC) - renewed).total_seconds()

    def _post(self, kind: str, manifest: dict[str, Any]) -> None:
        self.objects.create_namespaced_custom_object(
            GROUP, VERSION, self.world.tenant, kind, manifest
        )

    def _generator(self, name: str) -> dict[str, Any]:
        manifest = self.world.private_generator(name)
        manifest["spec"]["suspend"] = True
        return manifest

    def _dataset(self, name: str) -> dict[str, Any]:
        manifest = self.world.synthetic_dataset(name)
        manifest["spec"]["generatorRef"]["name"] = name
        return manifest

    def _run(self, name: str) -> dict[str, Any]:
        manifest = self.world.alignment_run(name)
        manifest["spec"]["datasetRef"]["name"] = name
        return manifest


@contextmanager
def gathered(plane: ControlPlane, store: ObjectStore, folder: Path) -> Iterator[Crowd]:
    """All resources, each with a current status, and the installed operator."""
    world = World(plane, store, folder)
    world.prepare()
    ledgers.fill(world.store("operator"), world.private, ENTRIES)
    world.start()
    try:
        world.apply(world.privacy_budget(ledgers.EPSILON))
        made = Crowd(world)
        made.create()
        world.until("every status is current", made.settled, 900)
        yield made
    finally:
        world.kill()
