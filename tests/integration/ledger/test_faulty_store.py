"""A store that fails, falls silent or answers in part, at any call of any operation."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import SimpleQueue

import pytest
from cluster.fixtures import ObjectStore
from faults.behaviour import (
    failed_after,
    lost,
    lost_after,
    once,
    refused,
    sent_twice,
    silent_after,
    truncated,
)
from faults.proxy import Fault
from integration.ledger.facts import entries_of, kinds
from integration.ledger.ground import Lane, lane
from integration.ledger.operations import OPERATIONS, Spot, operate, prepare, spots, summary
from palimpsest.ledger import Journal, LedgerError
from palimpsest.storage import S3Store, StoreError

LANES = 4
TIMEOUT_SECONDS = 0.5
TRIES = 5

FAULTS: dict[str, Fault] = {
    "answers 500": refused(500, "InternalError"),
    "answers 503": refused(503, "SlowDown"),
    "answers 500 after having written": failed_after(500, "InternalError"),
    "answers 503 after having written": failed_after(503, "SlowDown"),
    "falls silent after having written": silent_after,
    "truncates": truncated,
    "loses the connection": lost,
    "loses the connection after having written": lost_after,
    "is asked twice by something between": sent_twice,
}
# The store did what it was asked: the journal itself must find that out.
DONE = {name for name in FAULTS if "after" in name or "twice" in name or name == "truncates"}
IN_CI = {
    "answers 500 after having written",
    "answers 503",
    "falls silent after having written",
    "truncates",
    "is asked twice by something between",
}

Lanes = SimpleQueue[Lane]


@pytest.fixture(scope="module")
def lanes(object_store: ObjectStore) -> Iterator[Lanes]:
    """Lanes whose reads are asked once and soon given up: every fault reaches the journal."""
    free: Lanes = SimpleQueue()
    with ExitStack() as running:
        for _ in range(LANES):
            hasty = lane(object_store, read_timeout=TIMEOUT_SECONDS, read_attempts=1)
            free.put(running.enter_context(hasty))
        yield free


def _prepared(operation: str, operator: S3Store) -> str:
    uri = f"s3://private/faulty/{secrets.token_hex(6)}/"
    prepare(operation, operator, uri)
    return uri


def _stands(call: Spot, fault: str) -> bool:
    """Whether the fault befell an entry that the store had taken."""
    return fault in DONE and call.entry


@pytest.mark.parametrize(
    "fault", [pytest.param(f, marks=[] if f in IN_CI else pytest.mark.full) for f in FAULTS]
)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_store_that(operation: str, fault: str, lanes: Lanes, operator: S3Store) -> None:
    clean = _prepared(operation, operator)
    counting = lanes.get()
    counting.proxy.watch()
    operate(operation, counting.store, clean)
    calls = spots(counting.proxy.calls, clean)
    lanes.put(counting)
    expected = summary(Journal(operator, clean).refresh())
    told = kinds(entries_of(operator, clean))

    def befallen(call: Spot) -> None:
        uri = _prepared(operation, operator)
        mine = lanes.get()
        try:
            mine.proxy.watch(call.rule(uri, FAULTS[fault]))
            for attempt in range(TRIES):
                try:
                    operate(operation, mine.store, uri)
                    break
                except (StoreError, LedgerError):
                    assert not _stands(call, fault), "an entry that stands was taken for lost"
                    entries_of(operator, uri)
                    assert attempt < TRIES - 1
        finally:
            lanes.put(mine)
        # Once: nothing was begun again that had been done.
        assert kinds(entries_of(operator, uri)) == told
        assert summary(Journal(operator, uri).refresh()) == expected

    with ThreadPoolExecutor(LANES) as pool:
        list(pool.map(befallen, calls))


@pytest.mark.parametrize("fault", ["answers 500", "answers 503", "loses the connection"])
def test_a_read_is_asked_again_before_the_journal_hears_of_it(
    fault: str, object_store: ObjectStore, operator: S3Store
) -> None:
    uri = _prepared("commit", operator)
    with lane(object_store) as patient:
        patient.proxy.watch()
        state = Journal(patient.store, uri).refresh()
        for number in range(len(entries_of(operator, uri)) + 1):
            patient.proxy.watch(once(lambda _: True, FAULTS[fault], number))
            assert Journal(patient.store, uri).refresh() == state
