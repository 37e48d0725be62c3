"""What the journal asks of the store, counted call by call."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from cluster.fixtures import ObjectStore
from integration.ledger.ground import Lane, Memory, lane
from palimpsest.ledger import Journal, last_entry
from palimpsest.ledger.reading import MOST_AHEAD
from palimpsest.storage import S3Store
from unit.ledger.folder_store import DATA, LIMIT, ORDER, subject, task, training

# A charge of which the limit never holds all: most are given back.
CHARGES = 8


@pytest.fixture(scope="module")
def counted(object_store: ObjectStore) -> Iterator[Lane]:
    """A client whose calls are counted."""
    with lane(object_store) as counting:
        yield counting


def _journal_of(entries: int, store: S3Store) -> str:
    """A journal of that many entries: charges reserved and given back, over and over."""
    uri = f"s3://private/counted-{secrets.token_hex(4)}/"
    memory = Memory()
    journal = Journal(memory, uri)
    journal.open(DATA, LIMIT, ORDER)
    while len(memory.objects) < entries:
        charge = journal.reserve(
            subject(f"g{len(memory.objects) // 2 % CHARGES}"), task(), training()
        )
        if len(memory.objects) < entries:
            journal.release(charge.id, "unneeded")
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(store.put_if_absent, memory.objects, memory.objects.values()))
    return uri


lengths = pytest.mark.parametrize(
    "entries", [50, 100, 400, pytest.param(10_000, marks=pytest.mark.full)]
)


@lengths
def test_reading_asks_for_every_entry_once(entries: int, counted: Lane, operator: S3Store) -> None:
    journal = Journal(counted.store, _journal_of(entries, operator))
    counted.proxy.watch()
    state = journal.refresh()
    assert state.head is not None
    assert state.head.sequence == entries - 1
    asked = Counter(call.path.rsplit("/", 1)[1] for call in counted.proxy.calls)
    assert {call.method for call in counted.proxy.calls} == {"GET"}
    assert {f"{sequence:012d}.json" for sequence in range(entries + 1)} <= asked.keys()
    assert set(asked.values()) == {1}
    assert len(asked) <= entries + 1 + MOST_AHEAD


@lengths
def test_the_last_entry_costs_no_reading_of_those_before_it(
    entries: int, counted: Lane, operator: S3Store
) -> None:
    uri = _journal_of(entries, operator)
    counted.proxy.watch()
    last = last_entry(counted.store, uri)
    assert last is not None
    assert last.head.sequence == entries - 1
    assert len(counted.proxy.calls) <= 2 * entries.bit_length() + 1
    counted.proxy.watch()
    assert last_entry(counted.store, uri, last.head) == last
    assert len(counted.proxy.calls) == 2


@pytest.mark.parametrize("entries", [3, 300])
def test_a_reserve_is_one_conditional_put_when_nobody_races(
    entries: int, counted: Lane, operator: S3Store
) -> None:
    journal = Journal(counted.store, _journal_of(entries, operator))
    journal.refresh()
    counted.proxy.watch()
    journal.reserve(subject("one-more"), task(), training())
    (write,) = (call for call in counted.proxy.calls if call.writes)
    assert (write.method, write.conditional) == ("PUT", True)
    assert write.path.endswith(f"/{entries:012d}.json")
    # However long the journal: is the last entry still there, was somebody faster?
    assert len(counted.proxy.calls) - 1 <= 2
