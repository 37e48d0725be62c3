"""The journal against a real S3 gateway: races between processes, kills, the operator's rights."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from cluster.fixtures import ObjectStore
from integration.ledger.writer import NOISE, STEPS
from palimpsest.ledger import Journal, LedgerError
from palimpsest.storage import (
    AccessDenied,
    ConditionalWritesUnsupported,
    NotFound,
    S3Store,
    StoreConfig,
    StoreUnavailable,
    probe_conditional_writes,
)
from unit.ledger.folder_store import DATA, LIMIT, ORDER, subject, task, training

TESTS = Path(__file__).parents[2]


def config(store: ObjectStore, account: str) -> StoreConfig:
    keys = store.credentials[account]
    return StoreConfig(store.endpoint, "us-east-1", True, None, keys.access_key, keys.secret_key)


@pytest.fixture
def operator(object_store: ObjectStore) -> S3Store:
    return S3Store(config(object_store, "operator"))


def opened(store: S3Store, prefix: str) -> Journal:
    journal = Journal(store, f"s3://private/{prefix}/")
    journal.open(DATA.model_copy(update={"uri": journal.uri}), LIMIT, ORDER)
    return journal


class Writer:
    """A writer process; one that was killed is started again."""

    def __init__(self, store: ObjectStore) -> None:
        keys = store.credentials["operator"]
        secret = "|".join((store.endpoint, keys.access_key, keys.secret_key))
        self._environment = {**os.environ, "STORE": secret, "PYTHONPATH": str(TESTS)}
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "integration.ledger.writer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment,
        )
        assert self._answer() == "ready"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def ask(self, uri: str, names: list[str], kill: bool = False) -> list[str] | None:
        """The names that were granted; None when the process was killed."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"uri": uri, "names": names, "kill": kill}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if answer:
            return list(json.loads(answer))
        assert self._process.wait() == -9
        self._start()
        return None

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def writers(object_store: ObjectStore) -> Iterator[list[Writer]]:
    started = [Writer(object_store) for _ in range(3)]
    yield started
    for writer in started:
        writer.stop()


@pytest.mark.parametrize("turn", range(6))
def test_twelve_writers_get_exactly_what_fits(
    turn: int, writers: list[Writer], operator: S3Store
) -> None:
    journal = opened(operator, f"race-{turn}")
    fitting = journal.state.limit_units // journal.state.price(training(NOISE, STEPS))
    assert 2 <= fitting < 12
    names = [[f"w{process}-{thread}" for thread in range(4)] for process in range(3)]
    # In every second turn a process dies when a write of its was taken, before it knows of it.
    fatal = turn % 2 == 1
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(Writer.ask, writers, [journal.uri] * 3, names, [fatal] * 3))
        assert (None in answers) == fatal
        # Started again, it asks for the same and finds what its write had taken.
        granted = [
            name
            for process in pool.map(Writer.ask, writers, [journal.uri] * 3, names)
            for name in process or []
        ]
    state = Journal(operator, journal.uri).refresh()
    held = {charge.subject.name for charge in state.charges.values()}
    assert held == set(granted)
    assert len(granted) == len(held) == fitting
    assert state.reserved == fitting * state.price(training(NOISE, STEPS)) <= state.limit_units


def test_release_racing_start_never_both(operator: S3Store, object_store: ObjectStore) -> None:
    journal = opened(operator, "release-or-start")
    stage = Journal(S3Store(config(object_store, "custodian")), journal.uri)
    winners = set()

    def attempt(operation: Callable[[], object], handicap: float) -> bool:
        time.sleep(handicap)
        try:
            operation()
        except LedgerError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        for turn in range(45):
            charge = journal.reserve(subject(f"turn-{turn}"), task(), training()).id
            race = [
                partial(journal.release, charge, "unneeded"),
                partial(stage.start, charge, 1),
            ]
            # Release later, start later, at once.
            handicaps = [(0.02, 0.0), (0.0, 0.02), (0.0, 0.0)][turn % 3]
            outcome = list(pool.map(attempt, race, handicaps))
            assert sum(outcome) == 1
            winners.add(outcome.index(True))
            settled = journal.refresh().charge(charge)
            assert (settled.status == "started") == (settled.attempts == 1)
            if settled.status == "started":
                journal.commit(charge, "disrupted")
    assert winners == {0, 1}


def test_the_operator_may_do_all_that_a_journal_needs(operator: S3Store) -> None:
    journal = opened(operator, "rights")
    probe_conditional_writes(operator, journal.location)
    charge = journal.reserve(subject(), task(), training(), 1, 8).id
    journal.release(charge, "unneeded")
    with pytest.raises(AccessDenied, match="bucket private"):
        list(operator.list("s3://private/"))


def test_a_tenant_reads_no_journal(object_store: ObjectStore, operator: S3Store) -> None:
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
    wrong = StoreConfig(object_store.endpoint, "us-east-1", True, None, keys.access_key, "wrong")
    assert "wrong" not in repr(wrong)
    with pytest.raises(AccessDenied, match=r"s3://private/x: .*check the keys"):
        S3Store(wrong).get("s3://private/x")
    nowhere = StoreConfig("http://127.0.0.1:9", "us-east-1", True, None, "a", "b")
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
