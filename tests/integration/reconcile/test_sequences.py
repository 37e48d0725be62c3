"""Random sequences of everything that can happen, played against the installed operator.

After each step an auditor reads the journal and the API server past the operator; at the end all
that was broken is healed and everything must come to rest where the facts put it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cluster.fixtures import ControlPlane, ObjectStore
from faults.apiserver import ApiProxy
from faults.proxy import Proxy
from integration.reconcile.auditor import Auditor
from integration.reconcile.ground import Ground, Site
from integration.reconcile.harness import World
from integration.reconcile.kube import ours
from integration.reconcile.player import Player
from integration.reconcile.sequences import sequence
from integration.reconcile.settling import Rest

SEEDS, SEEDS_IN_CI = 200, 20
SETTLING_SECONDS = 60.0
LOOK_SECONDS = 3.0
QUIET_SECONDS = 1.2
LEASE_SECONDS = 8.0


@pytest.fixture(scope="module")
def site(
    control_plane: ControlPlane,
    object_store: ObjectStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    World(control_plane, object_store, tmp_path_factory.mktemp("definitions")).define()
    with ApiProxy(control_plane.kubeconfig) as api, Proxy(object_store.endpoint) as between:
        yield Site(control_plane, object_store, api, between)


@pytest.mark.e2e
@pytest.mark.parametrize(
    "seed",
    [pytest.param(n, marks=[] if n < SEEDS_IN_CI else pytest.mark.full) for n in range(SEEDS)],
)
def test_sequence(site: Site, tmp_path: Path, seed: int) -> None:
    ground = Ground(site, tmp_path)
    ground.prepare()
    played: list[str] = []
    try:
        ground.operators.start()
        ground.kube.create(ours("PrivacyBudget"), ground.budget_manifest())
        _play(ground, seed, played)
    except Exception as error:
        again = "tests/integration/reconcile/test_sequences.py::test_sequence"
        steps = "\n".join(played)
        log = (tmp_path / "operator.log").read_text()[-3000:]
        raise AssertionError(
            f"{error}\n\nseed {seed}; again: .venv/bin/pytest '{again}[{seed}]'\n{steps}\n\n{log}"
        ) from error
    finally:
        ground.operators.stop()
        ground.heal()


def _play(ground: Ground, seed: int, played: list[str]) -> None:
    player = Player(ground)
    auditor = Auditor(ground, player)
    begun = time.monotonic()
    for step in sequence(seed):
        played.append(f"{time.monotonic() - begun:6.2f} {step}")
        came = player.play(step)
        played[-1] += f" ({came})" if came else ""
        time.sleep(step.pause)
        ground.operators.mend()
        auditor.check()
    played.append(f"{time.monotonic() - begun:6.2f} all is healed")
    ground.heal()
    player.heal()
    rest = Rest(ground, auditor.books)
    _settle(ground, player, auditor, rest.unrest)
    played.append(f"{time.monotonic() - begun:6.2f} at rest")
    _quiet(ground)
    played.append(f"{time.monotonic() - begun:6.2f} everything is deleted")
    for kind, name in player.there():
        ground.kube.delete(ours(kind, ground.tenant, name))
    _settle(ground, player, auditor, rest.gone)
    assert auditor.books.unchanged(), "entries were changed, or others lie beside them"
    _leads(ground)
    ground.kube.delete(ours("PrivacyBudget", "", ground.budget))
    played.append(
        f"{time.monotonic() - begun:6.2f} gone; {len(auditor.books.lines)} charges, the operator "
        f"ended by itself {ground.operators.ended_alone} times"
    )
    print("\n".join(played))


def _settle(
    ground: Ground, player: Player, auditor: Auditor, moving: Callable[[], list[str]]
) -> None:
    """Let all pods end well until nothing moves."""
    deadline = time.monotonic() + SETTLING_SECONDS
    # Causes that may go by themselves are looked for every half minute: do not wait.
    for target in (("PrivacyBudget", ground.budget), *player.there()):
        player.look_at(target)
    looked = time.monotonic()
    while True:
        ground.operators.mend()
        if time.monotonic() - looked > LOOK_SECONDS:
            # What did not fit is asked for again by whoever sees that there is more left.
            for target in player.there("BudgetExceeded"):
                player.look_at(target)
            looked = time.monotonic()
        ended = player.succeed_all()
        auditor.check()
        left = moving()
        if not left and not ended:
            return
        assert time.monotonic() < deadline, "not at rest: " + "; ".join(left)
        time.sleep(0.15)


def _quiet(ground: Ground) -> None:
    """When all is at rest the operator writes nothing, the Lease apart."""
    deadline = time.monotonic() + SETTLING_SECONDS
    while True:
        ground.written.clear()
        stored = len(ground.site.between.calls)
        time.sleep(QUIET_SECONDS)
        written = [*ground.written]
        written += [
            f"store: {c.method} {c.path}" for c in ground.site.between.calls[stored:] if c.writes
        ]
        if not written:
            return
        # On a busy machine the last word about a Job's end may still be on its way.
        assert time.monotonic() < deadline, f"at rest, but wrote {written}"


def _leads(ground: Ground) -> None:
    """The operator that acts still renews its Lease."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{ground.tenant}/leases/palimpsest-operator"
    spec = ground.kube.call("GET", path)["spec"]
    age = (datetime.now(UTC) - datetime.fromisoformat(spec["renewTime"])).total_seconds()
    up = time.monotonic() - ground.operators.since
    assert age < LEASE_SECONDS or up < LEASE_SECONDS, f"the Lease was last renewed {age:.0f} s ago"
