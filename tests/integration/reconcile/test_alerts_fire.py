"""Every alert fires at a real fault: the installed programs, a real Prometheus, hurried rules.

Hours are seconds here; what is asked, and the bounds that are not times, are the chart's.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from chart.test_alerts import ALERTS
from cluster.fixtures import ControlPlane, ObjectStore
from faults import apiserver, behaviour
from faults.apiserver import ApiProxy
from faults.proxy import Call, Exchange, Fault, Proxy, Rule, pass_all
from integration.admission.ground import Authority, Server, running
from integration.clusters.worlds import training_of
from integration.reconcile.harness import Json, World
from integration.reconcile.test_dashboards import review
from palimpsest.api.outcomes import Outcome
from palimpsest.ledger.entries import Subject
from palimpsest.ledger.errors import Denied
from palimpsest.ledger.journal import Journal
from palimpsest.ledger.nesting import entry
from palimpsest.privacy.mechanisms import DiscreteGaussian
from prometheus import RULES, Prometheus, at_ports, scraping

pytestmark = pytest.mark.full

WINDOWS = {"5m": "10s", "15m": "15s", "30m": "15s", "1h": "60s", "7d": "30s"}
WAITS = {"900": "5", "2 * 86400": "5"}
FOR = "2s"

# By what fails.
GONE = (
    "PalimpsestCertificateExpiring",
    "PalimpsestOperatorAbsent",
    "PalimpsestAdmissionAbsent",
    "PalimpsestOperatorNotLeading",
)
RESTARTING = "PalimpsestOperatorRestarting"
API = ("PalimpsestReconcileErrors", "PalimpsestAdmissionFailing", "PalimpsestAdmissionSlow")
STORE = ("PalimpsestObjectStoreErrors", "PalimpsestQueueStuck", "PalimpsestLedgerNotVerified")
BUDGET = (
    "PalimpsestLedgerConflictsHigh",
    "PalimpsestBudgetSpentSoon",
    "PalimpsestReservationHeld",
    "PalimpsestBudgetNearlySpent",
)
STAGES = (
    "PalimpsestStageStuck",
    "PalimpsestStageFailing",
    "PalimpsestAuditFailed",
    "PalimpsestChargeWithoutRelease",
)


def hurried(folder: Path) -> Path:
    """The chart's rules with other times."""
    groups = yaml.safe_load(RULES.read_text())
    waits = {f"> {usual}": f"> {short}" for usual, short in WAITS.items()}
    hurried = set()
    for group in groups["groups"]:
        for rule in group["rules"]:
            rule["expr"] = re.sub(
                r"\[(\w+)\]", lambda found: f"[{WINDOWS[found[1]]}]", rule["expr"]
            )
            for usual, short in waits.items():
                if usual in rule["expr"]:
                    rule["expr"] = rule["expr"].replace(usual, short)
                    hurried.add(usual)
            if "for" in rule:
                rule["for"] = FOR
    assert hurried == set(waits)
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump(groups))
    return path


@dataclass
class Site:
    """A world whose store and API server can fail, admission that reads the latter, Prometheus."""

    world: World
    store: Proxy
    api: ApiProxy
    admission: Server
    prometheus: Prometheus
    held: ExitStack
    seen: set[str]

    def quiet(self, *alerts: str) -> None:
        """Wait until none of them fires, as some may before all is up."""
        self.world.until("quiet", lambda: not self.prometheus.firing() & set(alerts))

    def fires(self, *alerts: str) -> None:
        """Wait until all do."""

        def all_of_them() -> bool:
            self.seen |= self.prometheus.firing()
            return set(alerts) <= self.seen

        self.world.until(f"{', '.join(alerts)} fire", all_of_them, seconds=90)

    def generator(self, name: str, outcome: Outcome | None, blocks: int = 0) -> Json:
        """A generator whose training spends so much and ends so; None: it goes on."""
        self.world.apply(self.world.private_generator(name, "0.5"))
        job = training_of(self.world, name)
        if blocks:
            self.world.spend(job, 1, blocks)
        if outcome is None:
            self.world.run_pods(job)
        else:
            self.world.end_pods(job, outcome)
        return job


@pytest.fixture
def site(control_plane: ControlPlane, object_store: ObjectStore, tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as held:
        api = held.enter_context(ApiProxy(control_plane.kubeconfig))
        api.watch(lambda _: apiserver.passed)
        store = held.enter_context(Proxy(object_store.endpoint))
        world = World(control_plane, replace(object_store, endpoint=store.endpoint), tmp_path)
        world.prepare()
        world.kubeconfig = api.kubeconfig(tmp_path / "kubeconfig")
        world.start()
        held.callback(world.kill)
        Authority().issue(tmp_path / "certificates")
        apart = held.enter_context(ExitStack())
        admission = apart.enter_context(running(world.kubeconfig, tmp_path / "certificates"))
        ports = {"palimpsest-operator": world.metrics, "palimpsest-admission": admission.metrics}
        prometheus = held.enter_context(
            scraping(tmp_path / "prometheus", at_ports(ports), hurried(tmp_path))
        )
        world.until("both are scraped", prometheus.up)
        yield Site(world, store, api, admission, prometheus, apart, set())


@contextmanager
def restarted(site: Site) -> Iterator[Site]:
    """The operator once more; it shows its metrics elsewhere."""
    world = site.world
    world.start()
    ports = {"palimpsest-operator": world.metrics}
    folder = world.folder / "again"
    with scraping(folder, at_ports(ports), hurried(world.folder)) as prometheus:
        yield replace(site, prometheus=prometheus, seen=set())


def late(seconds: float) -> Fault:
    """The API server takes its time."""

    async def fault(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)
        await apiserver.passed(exchange)

    return fault


async def hangs(exchange: Exchange) -> None:
    """Nothing comes back."""
    await exchange.abandoned()


def to_api(chosen: Callable[[Call], bool], fault: Fault) -> Rule:
    """What befalls the chosen calls of the API server."""
    return lambda call: fault if chosen(call) else apiserver.passed


def held_by_another(world: World) -> None:
    """The Lease as another replica keeps it."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": "another", "leaseDurationSeconds": 15, "renewTime": now}
    place = {"name": "palimpsest-operator", "namespace": world.tenant}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": place}
    world.apply(lease | {"spec": spec})


@contextmanager
def elsewhere(world: World) -> Iterator[None]:
    """Another leads, and renews its Lease, while the block lasts."""
    over = threading.Event()

    def keep() -> None:
        while not over.wait(3):
            held_by_another(world)

    held_by_another(world)
    keeping = threading.Thread(target=keep)
    keeping.start()
    try:
        yield
    finally:
        over.set()
        keeping.join()


def test_programs_that_are_gone_or_wait(site: Site) -> None:
    world = site.world
    expiring, *absent, waiting = GONE
    site.quiet(*absent, waiting)
    # Its certificate is for a day.
    site.fires(expiring)
    world.kill()
    site.held.close()
    site.fires(*absent)
    with elsewhere(world), restarted(site) as again:
        again.fires(waiting)


def test_an_operator_that_ends_again_and_again(site: Site) -> None:
    """In one pod, and so at one address."""
    world = site.world
    site.quiet(RESTARTING)
    world.environment["PALIMPSEST_METRICS_PORT"] = str(world.metrics)

    def fires() -> bool:
        world.kill()
        world.until("it is missed", lambda: not site.prometheus.up())
        world.start()
        world.until("it is scraped", site.prometheus.up)
        return RESTARTING in site.prometheus.firing()

    world.until("it fires", fires, seconds=90)


def test_an_api_server_that_fails(site: Site) -> None:
    world = site.world
    *failing, slow = API
    site.quiet(*API)
    world.apply(world.privacy_budget())
    world.until("Ready", lambda: world.summary("pb", world.budget) == "Ready")
    unwell = apiserver.refused(500, "InternalError")
    site.api.watch(to_api(lambda call: call.path.startswith("/apis/palimpsest"), unwell))
    with asking(site, world.private_generator()):
        world.apply(world.private_generator())
        site.fires(*failing)
        site.api.watch(to_api(lambda call: not apiserver.watches(call), late(1.5)))
        site.fires(slow)


def asking(site: Site, manifest: Json) -> ExitStack:
    """Somebody who keeps creating things, until the stack is closed."""
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.5):
            review(site.admission, manifest)

    thread = threading.Thread(target=ask)
    thread.start()
    stack = ExitStack()
    stack.callback(thread.join)
    stack.callback(over.set)
    return stack


def test_a_store_that_fails(site: Site) -> None:
    world = site.world
    errors, stuck, cut = STORE
    site.quiet(*STORE)
    world.apply(world.privacy_budget())
    world.until("Ready", lambda: world.summary("pb", world.budget) == "Ready")
    site.store.watch(lambda _: behaviour.refused(503, "SlowDown"))
    world.apply(world.private_generator())
    site.fires(errors)
    site.store.watch(lambda _: hangs)
    world.plane.kubectl("annotate", "pb", world.budget, "wake=up")
    site.fires(stuck)
    site.store.watch(pass_all)
    world.job(world.custody, "train")
    world.until("it is told", lambda: world.get("pb", world.budget)["status"]["charges"])
    head = world.journal().refresh().head
    assert head is not None
    world.kill()
    world.store("root").delete(entry(world.private, head.sequence))
    with restarted(site) as again:
        again.fires(cut)


def test_a_budget_that_others_spend_too(site: Site, object_store: ObjectStore) -> None:
    world = site.world
    *earlier, spent = BUDGET
    site.quiet(*BUDGET)
    world.apply(world.privacy_budget())
    world.until("Ready", lambda: world.summary("pb", world.budget) == "Ready")
    rival = Rival(world, object_store)

    def rule(call: Call) -> Fault:
        ours = call.conditional and "/ledger/" in call.path
        return rival.first if ours and rival.turns < 30 else pass_all(call)

    site.store.watch(rule)
    world.apply(world.private_generator("slow", "2"))
    world.job(world.custody, "train")
    site.fires(*earlier)
    rival.empty()
    site.fires(spent)


class Rival:
    """Another cluster with the same data; it writes when the operator is about to."""

    def __init__(self, world: World, store: ObjectStore) -> None:
        # Past the proxy.
        elsewhere = World(world.plane, store, world.folder)
        self._journal = Journal(elsewhere.store("operator"), world.private)
        self.turns = 0

    async def first(self, exchange: Exchange) -> None:
        """Take the number that the operator wants."""
        self.turns += 1
        await asyncio.to_thread(self._write)
        await exchange.answer((await exchange.forward()).bytes)

    def empty(self) -> None:
        """Take all that is left."""
        with suppress(Denied):
            while True:
                self.turns += 1
                self._write("5")

    def _write(self, noise: str = "1000") -> None:
        subject = Subject(
            cluster="another", namespace="elsewhere", kind="SyntheticDataset", name="theirs"
        )
        task = f"sha256:{self.turns:064x}"
        self._journal.reserve(subject, task, DiscreteGaussian(noiseMultiplier=noise))


def test_stages_that_fail(site: Site) -> None:
    world = site.world
    stuck, failing, *audited = STAGES
    site.quiet(*STAGES)
    world.apply(world.privacy_budget())
    site.generator("stuck", None, blocks=1)
    site.fires(stuck)
    for number in range(4):
        site.generator(f"unsuitable-{number}", Outcome.MODEL_UNSUITABLE)
    site.fires(failing)
    site.generator("leaky", Outcome.AUDIT_FAILED, blocks=1)
    site.fires(*audited)


def test_no_alert_is_without_a_fault_here() -> None:
    assert {*GONE, RESTARTING, *API, *STORE, *BUDGET, *STAGES} == set(ALERTS)
