"""Clients, lanes and processes that the ledger's tests share."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict

import pytest
from cluster.fixtures import ObjectStore
from faults.nursery import Nursery
from faults.proxy import Proxy
from integration.ledger.ground import config
from palimpsest.storage import S3Store

PROCESSES = 4


@pytest.fixture(scope="session")
def operator(object_store: ObjectStore) -> S3Store:
    """The operator's client, with nothing in between."""
    return S3Store(config(object_store))


@pytest.fixture(scope="module")
def proxies(object_store: ObjectStore) -> Iterator[list[Proxy]]:
    """One for each lane of the nursery."""
    with ExitStack() as running:
        yield [running.enter_context(Proxy(object_store.endpoint)) for _ in range(PROCESSES)]


@pytest.fixture(scope="module")
def nursery(
    object_store: ObjectStore, proxies: list[Proxy], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Nursery]:
    """Processes that reach the store through the proxy of their lane."""
    lanes = [asdict(config(object_store, endpoint=proxy.endpoint)) for proxy in proxies]
    folder = tmp_path_factory.mktemp("n")
    with Nursery("integration.ledger.victim", {"lanes": lanes}, folder) as running:
        yield running
