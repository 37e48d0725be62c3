"""What the ledger's tests against a real store share: configurations, journals, lanes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cluster.fixtures import ObjectStore
from faults.proxy import Proxy
from palimpsest.ledger import Journal
from palimpsest.storage import AccessKeys, NotFound, S3Store, StoreConfig
from palimpsest.storage.s3 import READ_ATTEMPTS, READ_TIMEOUT_SECONDS
from unit.ledger.folder_store import DATA, LIMIT, ORDER


def config(
    store: ObjectStore,
    account: str = "operator",
    endpoint: str = "",
    read_timeout: float = READ_TIMEOUT_SECONDS,
    read_attempts: int = READ_ATTEMPTS,
) -> StoreConfig:
    """An account's way into the store; `endpoint` where a proxy stands before it."""
    keys = store.credentials[account]
    return StoreConfig(
        endpoint or store.endpoint,
        "us-east-1",
        True,
        None,
        AccessKeys(keys.access_key, keys.secret_key),
        read_timeout=read_timeout,
        read_attempts=read_attempts,
    )


def opened(store: S3Store, prefix: str) -> Journal:
    """The journal of a prefix of the private bucket, open."""
    journal = Journal(store, f"s3://private/{prefix}/")
    journal.open(DATA.model_copy(update={"uri": journal.uri}), LIMIT, ORDER)
    return journal


@dataclass(frozen=True)
class Lane:
    """A proxy of one's own, and a client that goes through it."""

    proxy: Proxy
    store: S3Store


@contextmanager
def lane(
    store: ObjectStore,
    account: str = "operator",
    read_timeout: float = READ_TIMEOUT_SECONDS,
    read_attempts: int = READ_ATTEMPTS,
) -> Iterator[Lane]:
    """A lane as patient as the product's client, unless told otherwise."""
    with Proxy(store.endpoint) as proxy:
        through = config(store, account, proxy.endpoint, read_timeout, read_attempts)
        yield Lane(proxy, S3Store(through))


class Memory:
    """A store to build a journal in, before it is copied where it is wanted."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def get(self, uri: str) -> bytes:
        """The object."""
        try:
            return self.objects[uri]
        except KeyError:
            raise NotFound(uri) from None

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        """Create the object."""
        return self.objects.setdefault(uri, data) is data
