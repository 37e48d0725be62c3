"""An operator that can no longer watch must not stay: another, or it again, has to take over."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

from cluster.fixtures import ControlPlane, ObjectStore
from faults import apiserver
from faults.apiserver import ApiProxy
from faults.proxy import Call, Exchange, Fault
from integration.reconcile.harness import World

PATIENCE_SECONDS = 60


def _late(seconds: float, fault: Fault) -> Fault:
    async def late(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)
        await fault(exchange)

    return late


def test_an_operator_whose_watches_are_refused_ends_and_the_next_one_sees_all(
    control_plane: ControlPlane, object_store: ObjectStore, tmp_path: Path
) -> None:
    """One after another, as from a busy server: kopf 1.45 then waits for ever for the last ones."""
    world = World(control_plane, object_store, tmp_path)
    world.prepare()
    turn = count()

    def rule(call: Call) -> Fault:
        if "/leases" in call.path:
            return apiserver.passed
        return _late(0.5 * next(turn), apiserver.refused(401, "Unauthorized"))

    with ApiProxy(control_plane.kubeconfig) as api:
        api.watch(lambda _: apiserver.passed)
        world.kubeconfig = api.kubeconfig(tmp_path / "kubeconfig")
        try:
            world.start()
            world.apply(world.privacy_budget())
            world.until("seen", lambda: world.summary("privacybudget", world.budget) == "Ready")
            api.watch(rule)
            api.cut()
            assert world.operator is not None
            assert world.operator.wait(PATIENCE_SECONDS) != 0
            api.watch(lambda _: apiserver.passed)
            world.start()
            world.apply(world.private_generator())
            world.job(world.custody, "train")
        finally:
            world.kill()
