"""How entries are fetched: in order and a few ahead, one that is remembered, the last one alone."""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from palimpsest.ledger.entries import COMPARTMENT, digest, parse
from palimpsest.ledger.errors import EntryChanged, JournalShortened, JournalTampered
from palimpsest.ledger.nesting import entry as entry_uri
from palimpsest.ledger.state import Head
from palimpsest.storage import NotFound, canonical_prefix

THREADS = 8
MOST_AHEAD = 32


class EntryReader(Protocol):
    """What reading needs of a store. May be asked from several threads at once."""

    def get(self, uri: str) -> bytes:
        """The object. Raises NotFound."""


@dataclass(frozen=True)
class LastEntry:
    """A journal's last entry and the totals that it carries, in the gate's units."""

    head: Head
    committed: int
    reserved: int


def follow(get: Callable[[int], bytes], first: int) -> Generator[bytes, None, None]:
    """Entries `first`, `first + 1`, ... up to the first that is not there.

    The longer entries keep coming, the more are asked for ahead: a long journal does not cost a
    round trip an entry, an up-to-date reader asks once. Raises what `get` raises, in order.
    """
    try:
        data = get(first)
    except NotFound:
        return
    yield data
    pool = ThreadPoolExecutor(THREADS)
    asked: deque[Future[bytes]] = deque()
    ahead, upcoming = 1, first + 1
    try:
        while True:
            while len(asked) < ahead:
                asked.append(pool.submit(get, upcoming))
                upcoming += 1
            try:
                data = asked.popleft().result()
            except NotFound:
                return
            yield data
            ahead = min(ahead + 1, MOST_AHEAD)
    finally:
        pool.shutdown(cancel_futures=True)


def confirm(store: EntryReader, uri: str, remembered: Head) -> bytes:
    """A remembered entry, as it is stored. Raises JournalTampered if it is gone or another."""
    try:
        data = store.get(entry_uri(uri, remembered.sequence))
    except NotFound:
        raise JournalShortened(
            f"entry {remembered.sequence} was there before and is gone"
        ) from None
    if digest(data) != remembered.digest:
        raise EntryChanged(f"entry {remembered.sequence} is not the one that was there before")
    return data


def last_entry(store: EntryReader, data_uri: str, hint: Head | None = None) -> LastEntry | None:
    """The last entry of a journal, None if there is none.

    Two requests when the hint is the last entry, O(log distance) when it lies behind or is not
    given. It is believed, not proven: only a replay checks the entries before it. Raises
    JournalTampered if the journal no longer holds the hint, LedgerError, StoreError; ValueError for
    a URI that names no one prefix.
    """
    uri = canonical_prefix(data_uri)

    def read(sequence: int) -> bytes | None:
        try:
            return store.get(entry_uri(uri, sequence))
        except NotFound:
            return None

    last = hint.sequence if hint else 0
    data = confirm(store, uri, hint) if hint else read(0)
    if data is None:
        return None
    stride = 1
    while (further := read(last + stride)) is not None:
        last, data, stride = last + stride, further, 2 * stride
    absent = last + stride
    while absent - last > 1:
        middle = (last + absent) // 2
        between = read(middle)
        if between is None:
            absent = middle
        else:
            last, data = middle, between
    entry = parse(data)
    if entry.sequence != last:
        raise JournalTampered(f"entry {last} says that it is entry {entry.sequence}")
    totals = entry.totals[COMPARTMENT]
    return LastEntry(Head(last, digest(data)), totals.committed, totals.reserved)
