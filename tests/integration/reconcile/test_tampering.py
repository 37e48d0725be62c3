"""A journal that lost an entry stops its budget until the entry is back; nothing is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from integration.reconcile.harness import World
from palimpsest.ledger.nesting import entry
from palimpsest.storage import NotFound

GAUGE = "palimpsest_budget_ledger_verified"
REASON = "JournalShorterThanStatus"


def verified(world: World) -> tuple[str, str]:
    """Status and reason of the budget's condition."""
    status = world.get("pb", world.budget).get("status", {})
    for each in status.get("conditions", []):
        if each["type"] == "LedgerVerified":
            return each["status"], each["reason"]
    return "", ""


def gauge(world: World) -> str:
    """The metric as Prometheus would read it from the running operator."""
    assert world.operator is not None
    environment = Path(f"/proc/{world.operator.pid}/environ").read_text().split("\0")
    port = dict(line.partition("=")[::2] for line in environment)["PALIMPSEST_METRICS_PORT"]
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    mine = f'{GAUGE}{{privacybudget="{world.budget}"}} '
    return next((line.removeprefix(mine) for line in lines if line.startswith(mine)), "")


def events(world: World) -> list[dict[str, Any]]:
    """The budget's Events."""
    listed = world.plane.kubectl("get", "events", "-n", "default", "-o", "json")
    return [
        item
        for item in json.loads(listed)["items"]
        if item["involvedObject"]["name"] == world.budget
    ]


def test_a_journal_behind_the_status_stops_the_budget_until_it_is_restored(world: World) -> None:
    world.apply(world.privacy_budget())
    world.apply(world.private_generator())
    world.job(world.custody, "train")
    head = world.journal().refresh().head
    assert head is not None
    world.until(
        "the status shows the reservation",
        lambda: (
            world.get("pb", world.budget)["status"].get("head", {}).get("digest") == head.digest
        ),
    )
    assert verified(world) == ("True", "Verified")
    assert gauge(world) == "1.0"
    before = world.get("pb", world.budget)["status"]

    # Nobody who works here may delete an entry: it takes the store's own keys.
    store = world.store("root")
    last = entry(world.private, head.sequence)
    kept = store.get(last)
    world.kill()
    store.delete(last)
    world.start()
    world.until("the finding", lambda: verified(world) == ("False", REASON))
    world.until("the generator is held", lambda: world.summary("pgen", "questions") == REASON)
    world.apply(world.private_generator("second"))
    world.until("the second is held", lambda: world.summary("pgen", "second") == REASON)
    after = world.get("pb", world.budget)["status"]
    for field in ("head", "shares", "charges"):
        assert after[field] == before[field]
    assert gauge(world) == "0.0"
    assert REASON in {event["reason"] for event in events(world) if event["type"] == "Warning"}
    # No entry was written over the gap.
    with pytest.raises(NotFound):
        store.get(last)

    store.put(last, kept)
    world.plane.kubectl("annotate", "pb", world.budget, "wake=up")
    world.until("the journal is whole again", lambda: verified(world) == ("True", "Verified"))
    assert gauge(world) == "1.0"
    assert before["charges"][0]["id"] in world.journal().refresh().charges
