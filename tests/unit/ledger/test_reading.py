"""Entries are fetched ahead without changing what is read; the last one is found alone."""

import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from math import log2
from typing import Any

import pytest
from palimpsest.ledger import (
    EntryChanged,
    Head,
    Journal,
    JournalShortened,
    JournalTampered,
    LastEntry,
    LedgerError,
    LedgerState,
    last_entry,
    reading,
)
from palimpsest.ledger.entries import digest
from palimpsest.ledger.nesting import entry as entry_uri
from palimpsest.ledger.reading import MOST_AHEAD, follow
from palimpsest.privacy.mechanisms import DiscreteGaussian
from palimpsest.storage import NotFound, StoreUnavailable
from unit.ledger.folder_store import DATA, LIMIT, ORDER, URI, subject, task

# A journal holds thousands of these.
SMALL = DiscreteGaussian(noiseMultiplier="900")


class CountingStore:
    """Objects in a dictionary; remembers what was asked for."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []

    def get(self, uri: str) -> bytes:
        self.asked.append(uri)
        try:
            return self.objects[uri]
        except KeyError:
            raise NotFound(uri) from None

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        return self.objects.setdefault(uri, data) is data


@pytest.fixture(scope="module")
def long() -> tuple[CountingStore, list[LedgerState]]:
    """A journal of 801 entries, and its state after each."""
    store = CountingStore()
    journal = Journal(store, URI)
    states = [journal.open(DATA, LIMIT, ORDER)]
    for number in range(800):
        journal.reserve(subject(), task(number), SMALL)
        states.append(journal.state)
    return store, states


def first_of(states: list[LedgerState], count: int, store: CountingStore) -> CountingStore:
    """A store that holds the journal's first entries only."""
    cut = CountingStore()
    uris = [entry_uri(URI, sequence) for sequence in range(count)]
    cut.objects = {uri: store.objects[uri] for uri in uris}
    return cut


def described(state: LedgerState) -> LastEntry:
    assert state.head is not None
    return LastEntry(state.head, state.committed, state.reserved)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 64, 150, 201])
def test_the_last_entry_is_found_from_anywhere(
    count: int, long: tuple[CountingStore, list[LedgerState]]
) -> None:
    whole, states = long
    store = first_of(states, count, whole)
    assert last_entry(store, URI) == described(states[count - 1])
    assert len(store.asked) <= 2 * log2(count) + 3
    for behind in range(count):
        hint = states[count - 1 - behind].head
        store.asked.clear()
        assert last_entry(store, URI.removesuffix("/"), hint) == described(states[count - 1])
        assert len(store.asked) <= 2 + 2 * log2(behind + 1)


def test_an_empty_journal_has_no_last_entry() -> None:
    assert last_entry(CountingStore(), URI) is None


def test_a_hint_that_the_journal_no_longer_holds_is_tampering(
    long: tuple[CountingStore, list[LedgerState]],
) -> None:
    whole, states = long
    cut = first_of(states, 20, whole)
    with pytest.raises(JournalShortened, match="entry 20 was there before and is gone"):
        last_entry(cut, URI, states[20].head)
    with pytest.raises(EntryChanged, match="entry 19 is not the one"):
        last_entry(cut, URI, Head(19, digest(b"another")))
    with pytest.raises(JournalShortened):
        last_entry(CountingStore(), URI, states[0].head)


def test_what_stands_last_must_be_that_entry(
    long: tuple[CountingStore, list[LedgerState]],
) -> None:
    whole, states = long
    cut = first_of(states, 20, whole)
    cut.objects[entry_uri(URI, 20)] = whole.objects[entry_uri(URI, 21)]
    with pytest.raises(JournalTampered, match="entry 20 says that it is entry 21"):
        last_entry(cut, URI)
    cut.objects[entry_uri(URI, 20)] = b"{}"
    with pytest.raises(LedgerError, match="kind"):
        last_entry(cut, URI)


def numbered(last: int, failing: int | None = None) -> Callable[[int], bytes]:
    def get(sequence: int) -> bytes:
        if sequence == failing:
            raise StoreUnavailable("no answer")
        if sequence > last:
            raise NotFound(str(sequence))
        return str(sequence).encode()

    return get


@pytest.mark.parametrize("last", [-1, 0, 1, 2, 40, 100])
def test_entries_come_in_order_up_to_the_first_that_is_absent(last: int) -> None:
    assert list(follow(numbered(last), 0)) == [str(n).encode() for n in range(last + 1)]


def test_what_lies_behind_a_gap_is_not_read() -> None:
    def get(sequence: int) -> bytes:
        if sequence == 30:
            raise NotFound("gap")
        return str(sequence).encode()

    assert len(list(follow(get, 0))) == 30


def test_a_failure_is_raised_in_its_turn_and_none_from_behind_the_end() -> None:
    read: list[bytes] = []
    with pytest.raises(StoreUnavailable):
        read.extend(follow(numbered(100, failing=50), 0))
    assert len(read) == 50
    assert len(list(follow(numbered(40, failing=42), 0))) == 41


def test_a_reader_that_is_up_to_date_asks_once() -> None:
    asked = []

    def get(sequence: int) -> bytes:
        asked.append(sequence)
        raise NotFound("end")

    assert list(follow(get, 7)) == []
    assert asked == [7]


def test_entries_are_asked_for_at_once_but_not_far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    lock, running, submitted = threading.Lock(), [0], [0]
    met = threading.Event()

    class Recording(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            submitted.append(args[0])
            return super().submit(fn, *args, **kwargs)

    def get(sequence: int) -> bytes:
        with lock:
            running[0] += 1
            if running[0] == 4:
                met.set()
        if sequence > 20:
            # Nobody goes on before four are here.
            assert met.wait(30)
        with lock:
            running[0] -= 1
        return b""

    monkeypatch.setattr(reading, "ThreadPoolExecutor", Recording)
    with closing(follow(get, 0)) as entries:
        for taken, _ in enumerate(islice(entries, 100), start=1):
            assert max(submitted) < taken + MOST_AHEAD
    assert met.is_set()


def test_an_entry_costs_the_same_however_many_charges_there_are(
    long: tuple[CountingStore, list[LedgerState]],
) -> None:
    store = long[0]
    sizes = []
    tracemalloc.start()
    try:
        journal = Journal(store, URI)
        states = []
        for sequence in range(801):
            journal._take(store.objects[entry_uri(URI, sequence)])
            states.append(journal.state)
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[800] - sizes[700] < 1.5 * (sizes[200] - sizes[100])
