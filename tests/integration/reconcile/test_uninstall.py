"""The operator taken away while resources live: they can be deleted, and one that comes back finds
what they had spent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from integration.reconcile.harness import World
from palimpsest.reconcile.plan import FINALIZER


def uninstall(world: World) -> subprocess.Popen[str]:
    """What the chart's hook runs."""
    return subprocess.Popen(
        [
            str(Path(sys.executable).with_name("palimpsest")),
            *("uninstall", f"--namespace={world.tenant}"),
        ],
        env={**os.environ, "KUBECONFIG": str(world.plane.kubeconfig)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finalizers(world: World) -> list[str]:
    return list(world.get("pgen", "questions", world.tenant)["metadata"].get("finalizers", []))


def test_resources_outlive_the_operator_and_can_be_deleted(world: World) -> None:
    world.apply(world.privacy_budget())
    world.apply(world.private_generator())
    world.job(world.custody, "train")
    assert finalizers(world) == [FINALIZER]
    waiting = uninstall(world)
    try:
        # A word from the operator: it works on, and the finalizer stays.
        world.plane.kubectl("delete", "jobs", "--all", "-n", world.custody)
        world.job(world.custody, "train")
        assert waiting.poll() is None
        assert finalizers(world) == [FINALIZER]
        world.kill(signal.SIGTERM)
        said, _ = waiting.communicate(timeout=60)
    finally:
        waiting.kill()
    assert waiting.returncode == 0, said
    assert "wait for no operator any more" in said
    assert finalizers(world) == []

    world.plane.kubectl("delete", "pgen", "questions", "-n", world.tenant, "--timeout=20s")
    before = world.journal().refresh()
    assert before.reserved > 0

    world.start()
    world.apply(world.private_generator())
    world.until("adopted", lambda: finalizers(world) == [FINALIZER])
    world.plane.kubectl("delete", "pgen", "questions", "-n", world.tenant, "--timeout=30s")
    after = world.journal().refresh()
    assert (after.reserved, after.committed, len(after.charges)) == (0, 0, 1)


def test_nothing_to_let_go_is_no_error_and_no_rights_are_said(world: World) -> None:
    world.kill(signal.SIGTERM)
    first = uninstall(world)
    assert first.wait(timeout=60) == 0
    world.plane.kubectl("delete", "namespace", world.tenant, "--wait=false")
    world.until("gone", lambda: not world.get("lease", "palimpsest-operator", world.tenant))
    refused = uninstall(world)
    said, _ = refused.communicate(timeout=60)
    assert refused.returncode == 1
    assert "run this again, or see docs/uninstall.md" in said
