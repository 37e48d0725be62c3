"""The journal against a real S3 server: the rights it needs, the store's answers, its refusals."""

import os
from pathlib import Path

import pytest
from cluster.fixtures import ObjectStore
from integration.ledger.ground import config, opened
from palimpsest.ledger import Journal
from palimpsest.storage import (
    AccessDenied,
    AccessKeys,
    ConditionalWritesUnsupported,
    NotFound,
    S3Store,
    StoreConfig,
    StoreUnavailable,
    probe_conditional_writes,
)
from unit.ledger.folder_store import subject, task, training


@pytest.fixture
def separate_rights(object_store: ObjectStore) -> None:
    """Only where accounts have rights of their own."""
    if not object_store.separate_rights:
        pytest.skip("every account of this store is its root")


def test_the_operator_may_do_all_that_a_journal_needs(
    separate_rights: None, operator: S3Store
) -> None:
    journal = opened(operator, "rights")
    probe_conditional_writes(operator, journal.location)
    charge = journal.reserve(subject(), task(), training(), 1, 8).id
    journal.release(charge, "unneeded")
    with pytest.raises(AccessDenied, match="bucket private"):
        list(operator.list("s3://private/"))


def test_a_tenant_reads_no_journal(
    separate_rights: None, object_store: ObjectStore, operator: S3Store
) -> None:
    uri = opened(operator, "closed").uri
    with pytest.raises(AccessDenied):
        Journal(S3Store(config(object_store, "tenant")), uri).refresh()


def test_objects_come_back_as_they_went(object_store: ObjectStore, tmp_path: Path) -> None:
    store = S3Store(config(object_store, "tenant"))
    uri = "s3://outputs/objects/a.bin"
    data = os.urandom(9 * 2**20)  # more than one part
    (tmp_path / "up").write_bytes(data)
    store.upload_file(tmp_path / "up", uri)
    store.download_file(uri, tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == data == store.get(uri)
    assert store.size(uri) == len(data)
    assert list(store.list("s3://outputs/objects/")) == [uri]
    assert not store.put_if_absent(uri, b"other")
    store.put(uri, b"other")
    assert store.get(uri) == b"other"
    store.delete(uri)
    assert not store.exists(uri)
    for ask in (store.get, store.size):
        with pytest.raises(NotFound):
            ask(uri)
    with pytest.raises(NotFound):
        store.download_file(uri, tmp_path / "none")


def test_failures_name_the_place_and_the_remedy(object_store: ObjectStore) -> None:
    keys = object_store.credentials["operator"]
    wrong = StoreConfig(
        object_store.endpoint, "us-east-1", True, None, AccessKeys(keys.access_key, "wrong")
    )
    assert "wrong" not in repr(wrong)
    with pytest.raises(AccessDenied, match=r"s3://private/x: .*check the keys"):
        S3Store(wrong).get("s3://private/x")
    nowhere = StoreConfig("http://127.0.0.1:9", "us-east-1", True, None, AccessKeys("a", "b"))
    with pytest.raises(StoreUnavailable, match="endpoint"):
        S3Store(nowhere).put_if_absent("s3://private/x", b"")


class Heedless(S3Store):
    """A store that takes no notice of If-None-Match."""

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        self.put(uri, data)
        return True


def test_a_store_without_conditional_writes_is_refused(object_store: ObjectStore) -> None:
    with pytest.raises(ConditionalWritesUnsupported, match="If-None-Match"):
        probe_conditional_writes(
            Heedless(config(object_store, "operator")), "s3://private/.palimpsest/x/ledger/"
        )
