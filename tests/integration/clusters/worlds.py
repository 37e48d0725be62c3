"""The same custodian, tenant and data seen from more than one cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from cluster.fixtures import ControlPlane
from integration.reconcile.harness import World
from palimpsest.receipts.keys import load_signer, public_pem
from palimpsest.reconcile.jobs import LABEL_ATTEMPT, LABEL_NAME

Json = dict[str, Any]
# What a budget's status repeats of its journal.
SHOWN = ("journal", "head", "gateOrder", "shares", "guarantee", "charges")
ADAPTER = {"adapter_model.safetensors": b"adapter"}


def elsewhere(world: World, plane: ControlPlane, folder: Path) -> World:
    """The same names and the same data on another control plane."""
    folder.mkdir()
    other = World(plane, world.object_store, folder)
    other.mark, other.private = world.mark, world.private
    other.custody, other.tenant, other.budget = world.custody, world.tenant, world.budget
    return other


def prepare(world: World, cluster: str = "") -> None:
    """All but the operator; `cluster` as the chart's value of that name."""
    world.prepare()
    config = world.folder / "config.yaml"
    told = yaml.safe_load(config.read_text()) | {"cluster": cluster}
    config.write_text(yaml.safe_dump(told))


def trust(world: World, other: World) -> None:
    """Take the other operator's receipts for valid."""
    theirs = load_signer(other.receipt_keys).public_key
    (world.receipt_keys / f"{other.folder.name}.pub").write_text(public_pem(theirs))


@contextmanager
def operated(world: World) -> Iterator[World]:
    """The world while its operator runs."""
    world.start()
    try:
        yield world
    finally:
        world.kill()


def jobs_of(world: World, generator: str) -> list[Json]:
    """A generator's Jobs in custody."""
    jobs = world.jobs(world.custody)
    return [job for job in jobs if job["metadata"]["labels"][LABEL_NAME] == generator]


def training_of(world: World, generator: str, attempt: int = 1) -> Json:
    """Wait for the pods of a generator's training."""

    def find() -> Json | None:
        for job in jobs_of(world, generator):
            if job["metadata"]["labels"][LABEL_ATTEMPT] == str(attempt) and world.pods(job):
                return job
        return None

    found: Json = world.until(f"attempt {attempt} of {generator}", find)
    return found


def budget_status(world: World) -> Json:
    """What the budget shows; {} as long as it shows nothing."""
    found: Json = world.get("privacybudget", world.budget).get("status", {})
    return found


def shows_head(world: World) -> bool:
    """Whether the budget shows the journal's head."""
    head = world.journal().refresh().head
    shown = budget_status(world).get("head")
    return head is not None and shown == {"sequence": head.sequence, "digest": head.digest}
