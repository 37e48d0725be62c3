"""Does the store honour conditional writes? The journal is a lock only if it does."""

from typing import Protocol

from palimpsest.storage.errors import ConditionalWritesUnsupported

PROBE = "conditional-write-probe"


class ConditionalStore(Protocol):
    """What the probe needs of a store."""

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        """Create the object; False if it exists."""


def probe_conditional_writes(store: ConditionalStore, uri: str) -> None:
    """Write one object below `uri` twice, each time only if absent. Raises StoreError.

    ConditionalWritesUnsupported when the second write is accepted. The object keeps its name and
    stays: who may append to a journal need not be able to delete beside it.
    """
    probe = f"{uri.rstrip('/')}/{PROBE}"
    store.put_if_absent(probe, b"first")
    if store.put_if_absent(probe, b"second"):
        raise ConditionalWritesUnsupported(
            f"{uri}: the store ignores If-None-Match and would let two writers take one journal "
            "entry; use a store that honours conditional writes"
        )
