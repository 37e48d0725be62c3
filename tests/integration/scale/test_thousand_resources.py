"""A thousand resources: the memory the operator takes, and what it writes when all is quiet."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cluster.fixtures import ControlPlane, ObjectStore
from integration.reconcile.harness import World
from kubernetes.client import CustomObjectsApi
from kubernetes.config import new_client_from_config
from prometheus_client.parser import text_string_to_metric_families

GROUP, VERSION = "palimpsest.dev", "v1alpha1"
EACH = 333
MEGABYTES = 150
QUIET_SECONDS = 45
ROUNDS = 10
# Each pass over a thousand objects may leave some arenas behind; ten thousand may not leave more.
GROWTH_MEGABYTES = 15


class Crowd:
    """Many resources in one world, and what can be measured of its operator."""

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

    def poke(self, value: str) -> None:
        """Change an annotation of everything: each is reconciled once, and nothing comes of it."""
        body = {"metadata": {"annotations": {"poked": value}}}

        def one(which: tuple[str, str]) -> None:
            self.objects.patch_namespaced_custom_object(
                GROUP, VERSION, self.world.tenant, *which, body
            )

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(one, self.names()))

    def megabytes(self) -> float:
        """The operator's resident memory."""
        operator = self.world.operator
        assert operator is not None
        status = Path(f"/proc/{operator.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def reconciles(self) -> float:
        """How often the operator has reconciled."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.world.metrics}/metrics") as answer:
            text = answer.read().decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "palimpsest_controller_reconcile_time_seconds_count"
        )

    def writes(self) -> dict[str, float]:
        """What the API server was asked to write so far, by resource."""
        found: dict[str, float] = {}
        text = self.world.plane.kubectl("get", "--raw", "/metrics")
        for family in text_string_to_metric_families(text):
            if family.name != "apiserver_request":
                continue
            for sample in family.samples:
                labels = sample.labels
                if sample.name.endswith("_total") and labels["verb"] in (
                    "POST",
                    "PUT",
                    "PATCH",
                    "APPLY",
                    "DELETE",
                ):
                    name = f"{labels['group']}/{labels['resource']}"
                    found[name] = found.get(name, 0) + sample.value
        return found

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


@pytest.fixture(scope="module")
def crowd(
    control_plane: ControlPlane,
    object_store: ObjectStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Crowd]:
    world = World(control_plane, object_store, tmp_path_factory.mktemp("scale"))
    world.prepare()
    world.start()
    try:
        world.apply(world.privacy_budget())
        made = Crowd(world)
        made.create()
        world.until("every status is current", made.settled, 300)
        yield made
    finally:
        world.kill()


@pytest.mark.full
def test_a_thousand_resources_fit_into_the_operators_memory_however_often_reconciled(
    crowd: Crowd,
) -> None:
    crowd.poke("warm")
    before, counted = crowd.megabytes(), crowd.reconciles()
    for number in range(ROUNDS):
        crowd.poke(str(number))
    wanted = counted + ROUNDS * len(crowd.names())
    # Pokes that meet a waiting key are one reconcile: most must have had their own.
    crowd.world.until("reconciled", lambda: crowd.reconciles() > 0.8 * wanted, 300)
    after, done = crowd.megabytes(), crowd.reconciles() - counted
    print(
        f"{3 * EACH + 1} resources: {before:.0f} MB; after {done:.0f} more reconciles "
        f"{after:.0f} MB ({1e3 * (after - before) / done:.2f} MB a thousand)"
    )
    assert after <= MEGABYTES
    assert after - before <= GROWTH_MEGABYTES


@pytest.mark.full
def test_when_all_is_quiet_the_lease_alone_is_written(crowd: Crowd) -> None:
    time.sleep(10)
    before = crowd.writes()
    time.sleep(QUIET_SECONDS)
    changed = {
        name: crowd.writes()[name] - before.get(name, 0)
        for name, count in crowd.writes().items()
        if count != before.get(name, 0)
    }
    assert changed.keys() <= {"coordination.k8s.io/leases"}, changed
    assert changed, "the operator must be alive"
