"""A journal of many entries, of every kind, in a store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from palimpsest.ledger.nesting import location
from palimpsest.storage import S3Store
from unit.audit.ground import built

# What the journal's budget must say of its limit, the entries being what they are.
EPSILON = "7.5"


def fill(store: S3Store, uri: str, entries: int) -> None:
    """Put a journal of 15,000 records and delta 1e-5 where that of `uri` lies."""
    place, objects = location(uri), built(entries, uri)
    with ThreadPoolExecutor(4) as pool:
        written = pool.map(lambda name: store.put_if_absent(place + name, objects[name]), objects)
        assert all(written), "there was a journal"
