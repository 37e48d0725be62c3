"""A journal's entries read without the ledger's code, and the invariants they must keep."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from palimpsest.ledger import Journal
from palimpsest.privacy.gate import rho
from palimpsest.storage import NotFound, S3Store

Json = dict[str, Any]


@dataclass
class Held:
    """One charge as its entries tell it."""

    cost: int
    standing: str = "active"
    starts: int = 0


def entries_of(store: S3Store, uri: str) -> list[Json]:
    """The entries in order; fails if they are no chain or break an invariant."""
    location = Journal(store, uri).location
    entries: list[Json] = []
    previous = None
    while True:
        try:
            data = store.get(f"{location}{len(entries):012d}.json")
        except NotFound:
            break
        entry = json.loads(data)
        assert (entry["sequence"], entry["previous"]) == (len(entries), previous)
        previous = "sha256:" + hashlib.sha256(data).hexdigest()
        entries.append(entry)
    _keep(entries)
    return entries


def kinds(entries: list[Json]) -> list[str]:
    """What happened, in order."""
    return [entry["kind"] for entry in entries]


def _keep(entries: list[Json]) -> None:
    """Spending stays within the limit, committed never shrinks, nothing is charged twice."""
    limit, delta, order = Decimal(0), Decimal(0), 0
    held: dict[str, Held] = {}
    committed_before = 0
    for entry in entries:
        kind, body = entry["kind"], entry["body"]
        if kind == "open":
            gate = body["compartments"][0]["gate"]["orders"][0]
            order, delta = gate["order"], Decimal(gate["delta"])
            limit = Decimal(body["limit"]["epsilon"])
        elif kind == "tighten":
            limit = Decimal(body["epsilon"])
        elif kind != "tombstone":
            _follow(held, kind, body)
        committed = sum(one.cost for one in held.values() if one.standing == "committed")
        reserved = sum(one.cost for one in held.values() if one.standing == "active")
        assert entry["totals"] == {"default": {"committed": committed, "reserved": reserved}}
        assert committed >= committed_before
        assert committed + reserved <= rho(limit, delta, order)
        committed_before = committed


def _follow(held: dict[str, Held], kind: str, body: Json) -> None:
    charge = body["charge"]
    if kind == "reserve":
        assert charge not in held or held[charge].standing == "released"
        held[charge] = Held(body["cost"])
        return
    assert held[charge].standing == "active"
    if kind == "start":
        held[charge].starts += 1
        assert body["attempt"] == held[charge].starts
    elif kind == "intent":
        assert body["attempt"] == held[charge].starts >= 1
    elif kind == "release":
        assert held[charge].starts == 0
        held[charge].standing = "released"
    else:
        assert kind == "commit"
        assert held[charge].starts >= 1
        assert body["cost"] <= held[charge].cost
        held[charge] = Held(body["cost"], "committed", held[charge].starts)
