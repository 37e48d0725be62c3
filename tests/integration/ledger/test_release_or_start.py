"""Two that saw the same head: whichever writes first, the other is refused."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from cluster.fixtures import ObjectStore
from faults.behaviour import following, leading, met
from faults.proxy import Call, Fault, Rule, passed
from integration.ledger.facts import entries_of, kinds
from integration.ledger.ground import Lane, lane, opened
from palimpsest.ledger import Journal, LedgerError
from palimpsest.storage import S3Store
from unit.ledger.folder_store import subject, task, training

WAIT_SECONDS = 60
TURNS, TURNS_IN_CI = 1000, 200


@pytest.fixture(scope="module")
def pair(object_store: ObjectStore) -> Iterator[tuple[Lane, Lane]]:
    """The operator's lane and the stage's."""
    with ExitStack() as running:
        yield (
            running.enter_context(lane(object_store, "operator")),
            running.enter_context(lane(object_store, "custodian")),
        )


def _first_write(fault: Fault) -> Rule:
    """The fault befalls the first write."""
    begun = False

    def rule(call: Call) -> Fault:
        nonlocal begun
        if begun or not call.writes:
            return passed
        begun = True
        return fault

    return rule


def _race(
    pair: tuple[Lane, Lane], deeds: Sequence[Callable[[], Any]], first: int | None
) -> list[bool]:
    """Both decide before either writes; then `first` writes first, or both at once.

    Which of them were granted.
    """
    deciding = threading.Barrier(2, timeout=WAIT_SECONDS)
    written = threading.Event()
    for number, mine in enumerate(pair):
        then: Fault = passed
        if first is not None:
            then = leading(written) if number == first else following(written, WAIT_SECONDS)
        mine.proxy.watch(_first_write(met(deciding, then)))

    def granted(deed: Callable[[], Any]) -> bool:
        try:
            deed()
        except LedgerError:
            return False
        return True

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(granted, deeds))


@pytest.mark.parametrize(
    "turns",
    [TURNS_IN_CI, pytest.param(TURNS - TURNS_IN_CI, marks=pytest.mark.full)],
)
def test_release_racing_start_never_both(
    turns: int, pair: tuple[Lane, Lane], operator: S3Store
) -> None:
    journal = opened(operator, f"release-or-start-{secrets.token_hex(4)}")
    releasing, starting = (Journal(mine.store, journal.uri) for mine in pair)
    for turn in range(turns):
        charge = journal.reserve(subject(f"turn-{turn}"), task(), training()).id
        releasing.refresh()
        starting.refresh()
        deeds = [partial(releasing.release, charge, "unneeded"), partial(starting.start, charge, 1)]
        first = (0, 1, None)[turn % 3]
        granted = _race(pair, deeds, first)
        assert sum(granted) == 1
        winner = granted.index(True)
        assert first is None or winner == first
        settled = journal.refresh().charge(charge)
        assert (settled.status, settled.attempts) == (("released", 0), ("started", 1))[winner]
        if winner == 1:
            journal.commit(charge, "disrupted")
    told = kinds(entries_of(operator, journal.uri))
    assert told.count("release") + told.count("start") == told.count("reserve") == turns


def test_two_stages_of_one_clock_and_one_thought_start_once(
    pair: tuple[Lane, Lane], operator: S3Store
) -> None:
    """Entries that differ in nothing but their nonce: the loser must not take the other's for its
    own."""
    journal = opened(operator, f"twins-{secrets.token_hex(4)}")
    charge = journal.reserve(subject(), task(), training()).id
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    twins = [Journal(mine.store, journal.uri, lambda: noon) for mine in pair]
    granted = _race(pair, [partial(twin.start, charge, 1) for twin in twins], None)
    assert sum(granted) == 1
    assert kinds(entries_of(operator, journal.uri)) == ["open", "reserve", "start"]
