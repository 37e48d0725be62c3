"""What a resource that is being deleted settles: its own charges, in its own cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
from palimpsest.ledger import Journal
from palimpsest.reconcile.observed import Meta
from palimpsest.reconcile.plan import Commit, Release
from palimpsest.reconcile.policies.deletion import settle
from unit.ledger.folder_store import DATA, HISTOGRAM, LIMIT, ORDER, FolderStore, subject, task
from unit.reconcile.budgets import URI, budget, view

GOING = Meta("PrivateGenerator", "team-a", "generator", "u", 1, True, ("foregroundDeletion",))


@pytest.mark.parametrize("started", [False, True])
def test_another_cluster_s_charge_is_left_alone(started: bool, tmp_path: Path) -> None:
    journal = Journal(FolderStore(tmp_path), URI)
    journal.open(DATA, LIMIT, ORDER)
    charge = journal.reserve(subject(cluster="one"), task(), HISTOGRAM)
    if started:
        journal.start(charge.id, 1)
    paying = view(budget(), journal.state)
    mine = Commit(charge.id, "full") if started else Release(charge.id)
    assert settle(GOING, paying, (), "one").ledger == (mine,)
    there = settle(GOING, paying, (), "two")
    assert (there.ledger, there.finalizer) == ((), False)
