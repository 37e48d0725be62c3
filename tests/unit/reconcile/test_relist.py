"""A relist looks at everything there is, and once more at what has series and is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes.client import ApiClient
from palimpsest import main
from palimpsest.reconcile.adapter.cluster import Cluster
from palimpsest.reconcile.adapter.controller import Key
from palimpsest.reconcile.adapter.workqueue import WorkQueue
from palimpsest.telemetry import budgets, resources
from palimpsest.telemetry.resources import Object


class Listing(Cluster):
    """One generator."""

    def __init__(self) -> None:
        super().__init__(ApiClient())

    def resources(self, kind: str) -> Iterator[dict[str, Any]]:
        if kind == "PrivateGenerator":
            yield {"metadata": {"namespace": "research", "name": "there"}}


class Asked(WorkQueue[Key]):
    """What was made due."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[Key] = []

    def add(self, key: Key, delay: float = 0.0) -> None:  # noqa: ARG002 - as the queue has it
        self.keys.append(key)


def test_what_is_gone_is_looked_at_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "RELIST_SECONDS", 0)
    there, gone = (Object("PrivateGenerator", "research", name) for name in ("there", "gone"))
    resources.observe(there, "Ready", {}, {})
    resources.observe(gone, "Ready", {}, {})
    budgets.observe_ledger("lost", True)
    queue, stopping = Asked(), asyncio.Event()
    try:
        main._relist(Listing(), queue, stopping.set, stopping)
    finally:
        resources.forget(there)
        resources.forget(gone)
        budgets.forget("lost")
    for key in (
        Key("PrivacyBudget", "", "lost"),
        Key("PrivateGenerator", "research", "gone"),
        Key("PrivateGenerator", "research", "there"),
    ):
        assert queue.keys.count(key) == 1
