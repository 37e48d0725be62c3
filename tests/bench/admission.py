"""Admission with a journal of a thousand entries behind the budget: how long a user waits."""

from __future__ import annotations

import http.client
import json
import ssl
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import count
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit

from faults.apiserver import client_context
from integration.admission import ground
from integration.reconcile.harness import World
from integration.scale import ledgers
from palimpsest.api.crd import RESOURCES

from bench import standing
from bench.harness import Benchmark, Pair, Reading

ENTRIES = 1_000
ASKED = 300
REVIEWS = 3_000
MOST_MILLISECONDS = 20
Json = dict[str, Any]


class Caller:
    """One connection that stays open, as the API server keeps its own to the webhook."""

    def __init__(self, held: ExitStack, server: str, context: ssl.SSLContext) -> None:
        address = urlsplit(server).netloc
        self._connection = http.client.HTTPSConnection(address, context=context, timeout=30)
        held.callback(self._connection.close)

    def post(self, path: str, body: Json) -> tuple[Json, float]:
        """The answer, and the milliseconds from the first byte asked to the last one answered."""
        data = json.dumps(body).encode()
        began = time.perf_counter()
        self._connection.request("POST", path, data, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        text = answer.read()
        taken = 1000 * (time.perf_counter() - began)
        assert answer.status in (200, 201, 403), text
        return json.loads(text), taken


class Questions:
    """Of batches and noise that nobody asked about before: what is remembered answers none."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._fresh = count(1)

    def fitting(self) -> Json:
        """A generator that fits."""
        return self._generator("2")

    def overspending(self) -> Json:
        """A generator that does not: the answer says what would."""
        return self._generator("7")

    def dataset(self) -> Json:
        """A data set with a histogram that fits."""
        manifest = self._world.synthetic_dataset(f"d-{next(self._fresh)}")
        manifest["spec"]["resampling"]["noiseMultiplier"] = f"10.{next(self._fresh):06d}"
        return manifest

    def _generator(self, epsilon: str) -> Json:
        number = next(self._fresh)
        manifest = self._world.private_generator(f"g-{number}", epsilon)
        manifest["spec"]["training"]["expectedBatchSize"] = 64 + number
        return manifest


def _review(manifest: Json) -> Json:
    """The AdmissionReview that the API server makes of a creation."""
    group, version = manifest["apiVersion"].split("/")
    plural = next(each.plural for each in RESOURCES if each.kind == manifest["kind"])
    kind = {"group": group, "version": version, "kind": manifest["kind"]}
    resource = {"group": group, "version": version, "resource": plural}
    metadata = {
        **manifest["metadata"],
        "uid": str(uuid.uuid4()),
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "generation": 1,
    }
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": str(uuid.uuid4()),
            "kind": kind,
            "resource": resource,
            "requestKind": kind,
            "requestResource": resource,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "operation": "CREATE",
            "userInfo": {"username": "kubernetes-admin", "groups": ["system:masters"]},
            "object": {**manifest, "metadata": metadata},
            "oldObject": None,
            "dryRun": False,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    }


class Bench:
    """An admission server, alone, and who asks it."""

    def __init__(self, held: ExitStack) -> None:
        plane, store, folder = standing.without_a_node(held)
        world = World(plane, store, folder)
        world.prepare()
        ledgers.fill(world.store("operator"), world.private, ENTRIES)
        world.start()
        try:
            world.apply(world.privacy_budget(ledgers.EPSILON))
            world.until("the journal is read", lambda: self._head(world) == ENTRIES - 1, 120)
            # What data sets are made from.
            source = world.private_generator()
            source["spec"]["suspend"] = True
            world.apply(source)
        finally:
            world.kill()
        authority = ground.Authority()
        certificates = folder / "certificates"
        authority.issue(certificates)
        server = held.enter_context(ground.running(plane.kubeconfig, certificates))
        ground.eventually(lambda: server.probe("/readyz")[0] == 200, 10, "admission is ready")
        hook = ground.webhook(server.port, authority.bundle)
        plane.kubectl("apply", "-f", "-", stdin=json.dumps(hook))
        self.questions = Questions(world)
        self._tenant = world.tenant
        trusted = ssl.create_default_context(cadata=authority.pem)
        self._admission = Caller(held, f"https://127.0.0.1:{server.port}", trusted)
        admin = json.loads(plane.kubeconfig.read_text())
        self._api = Caller(held, plane.server, client_context(admin))

        def asked() -> bool:
            answer, _ = self.create(self.questions.overspending())
            return bool(answer["kind"] == "Status")

        ground.eventually(asked, 15, "the API server asks the webhook")

    def ask(self, manifest: Json, allowed: bool = True) -> float:
        """Milliseconds of a review."""
        answer, taken = self._admission.post("/validate", _review(manifest))
        assert answer["response"]["allowed"] is allowed, answer
        return taken

    def create(self, manifest: Json) -> tuple[Json, float]:
        """The answer to a creation that is not carried out, and its milliseconds."""
        plural = next(each.plural for each in RESOURCES if each.kind == manifest["kind"])
        place = f"/apis/{manifest['apiVersion']}/namespaces/{self._tenant}/{plural}"
        return self._api.post(f"{place}?dryRun=All", manifest)

    def namespace(self) -> float:
        """Milliseconds of a Namespace's creation, not carried out either."""
        _, taken = self._api.post(
            "/api/v1/namespaces?dryRun=All", {"metadata": {"generateName": "none-"}}
        )
        return taken

    @staticmethod
    def _head(world: World) -> int:
        status = world.get("privacybudget", world.budget).get("status", {})
        return int(status.get("head", {}).get("sequence", -1))


def _prepare(held: ExitStack) -> Pair:
    bench = Bench(held)
    make = bench.questions
    kinds: tuple[tuple[str, Callable[[], Json], bool], ...] = (
        ("granted", make.fitting, True),
        ("refused", make.overspending, False),
        ("data set", make.dataset, True),
    )

    def subject() -> float:
        asked = [made() for _ in range(ASKED // len(kinds)) for _, made, _ in kinds]
        return _p99([bench.create(manifest)[1] for manifest in asked])

    def baseline() -> float:
        return _p99([bench.namespace() for _ in range(ASKED)])

    def readings() -> Sequence[Reading]:
        taken: dict[str, list[float]] = {name: [] for name, _, _ in kinds}
        for _ in range(REVIEWS // len(kinds)):
            for name, made, allowed in kinds:
                taken[name].append(bench.ask(made(), allowed))
        everything = [each for kind in taken.values() for each in kind]
        medians = ", ".join(f"{name} {median(each):.1f} ms" for name, each in taken.items())
        return [
            Reading(
                "admission",
                _p99(everything),
                "ms",
                MOST_MILLISECONDS,
                f"99th percentile of {len(everything):,} reviews by the admission server alone, "
                f"over one TLS connection, one after another, {ENTRIES:,} entries in the budget's "
                "journal: a third generators that fit, a third that do not, a third data sets, no "
                "batch size or noise asked about twice",
            ),
            Reading(
                "admission-median",
                median(everything),
                "ms",
                None,
                f"the median of the same reviews ({medians})",
            ),
        ]

    return Pair(subject, baseline, readings)


def _p99(taken: Sequence[float]) -> float:
    return quantiles(taken, n=100, method="inclusive")[98]


BENCHMARK = Benchmark(
    "admission-latency",
    "ms",
    "lower",
    f"99th percentile of {ASKED} creations of generators and data sets that the real API server "
    f"asks the installed admission server about, dry run, {ENTRIES:,} entries in the budget's "
    "journal",
    "creations of Namespaces, dry run",
    0.1,
    _prepare,
)
