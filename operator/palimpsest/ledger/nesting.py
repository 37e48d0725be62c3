"""One record lies under one journal: a prefix inside another's is refused.

No listing is needed, and the journal's writer may have no right to one. A new journal first leaves
a mark at every prefix above it and then looks for journals there; a journal above first opens and
then looks for marks. Whatever the order of two that open at once, one of them sees the other.
"""

from typing import Protocol

from palimpsest.api.base import JOURNAL_ROOT
from palimpsest.ledger.errors import LedgerError
from palimpsest.storage import NotFound, S3Uri, parse_uri

MARK = "nested"


class MarkStore(Protocol):
    """What the marks need of a store."""

    def get(self, uri: str) -> bytes:
        """The object. Raises NotFound."""

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        """Create the object; False if it exists."""


def location(uri: str) -> str:
    """Where the journal of a canonical prefix lies."""
    place = parse_uri(uri)
    return str(S3Uri(place.bucket, f"{JOURNAL_ROOT}/{place.key}ledger/"))


def entry(uri: str, sequence: int) -> str:
    """Where an entry of that journal lies."""
    return f"{location(uri)}{sequence:012d}.json"


def refuse_inside(store: MarkStore, uri: str) -> None:
    """Before opening: raises LedgerError if a prefix above has a journal; else marks them all."""
    refuse_below(store, uri)
    for prefix in _above(uri):
        store.put_if_absent(location(prefix) + MARK, b"")
    refuse_below(store, uri)


def has_inside(store: MarkStore, uri: str) -> bool:
    """Whether a prefix below has, or was about to have, a journal of its own."""
    return _exists(store, location(uri) + MARK)


def refuse_below(store: MarkStore, uri: str) -> None:
    """Raises LedgerError naming the prefix above that has a journal, if one has."""
    for prefix in _above(uri):
        if _exists(store, entry(prefix, 0)):
            raise LedgerError(
                f"uri: {uri} lies inside {prefix}, which has a journal; make that budget the one "
                "for these data, or move them out"
            )


def _above(uri: str) -> list[str]:
    place = parse_uri(uri)
    segments = place.key.removesuffix("/").split("/")
    return [
        str(S3Uri(place.bucket, "/".join(segments[:count]) + "/"))
        for count in range(1, len(segments))
    ]


def _exists(store: MarkStore, uri: str) -> bool:
    try:
        store.get(uri)
    except NotFound:
        return False
    return True
