"""The journal: idempotence, lost answers, identity, tampering."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from palimpsest.ledger import (
    Denied,
    EntryChanged,
    Head,
    Journal,
    JournalShortened,
    JournalTampered,
    LedgerError,
    LedgerState,
    charge_id,
)
from palimpsest.ledger.entries import digest
from palimpsest.ledger.nesting import MARK, location
from palimpsest.privacy.mechanisms import Mechanism
from palimpsest.storage import StoreUnavailable
from unit.ledger.folder_store import (
    DATA,
    HISTOGRAM,
    LIMIT,
    ORDER,
    URI,
    FolderStore,
    subject,
    task,
    training,
)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


@pytest.fixture
def journal(store: FolderStore) -> Journal:
    journal = Journal(store, URI)
    journal.open(DATA, LIMIT, ORDER)
    return journal


def entries(journal: Journal, store: FolderStore) -> list[Path]:
    return sorted(store.path(journal.location).iterdir())


def fresh(store: FolderStore) -> LedgerState:
    return Journal(store, URI).refresh()


def test_a_charge_is_reserved_started_and_settled(journal: Journal, store: FolderStore) -> None:
    charge = journal.reserve(subject(), task(), training(), 1, 8)
    assert charge.id == charge_id(URI, "team-a", "PrivateGenerator", "generator", task())
    journal.start(charge.id, 1)
    for block in range(4):
        journal.intent(charge.id, 1, block, 8)
    settled = journal.commit(charge.id, "completed")
    assert settled.basis == "completed"
    assert 0 < settled.cost < charge.cost
    state = fresh(store)
    assert (state.committed, state.reserved) == (settled.cost, 0)
    assert state.head == journal.state.head


def test_every_operation_can_be_repeated(journal: Journal, store: FolderStore) -> None:
    one = journal.reserve(subject("one"), task(), training(), 1, 8).id
    two = journal.reserve(subject("two"), task(), HISTOGRAM).id
    journal.start(one, 1)
    journal.commit(one, "full")
    journal.release(two, "unneeded")
    before = len(entries(journal, store))
    again = Journal(store, URI)
    again.open(DATA, LIMIT, ORDER)
    again.reserve(subject("one"), task(), training(), 1, 8)
    again.commit(one, "completed")
    again.release(two, "unneeded")
    assert len(entries(journal, store)) == before


def test_a_charge_does_not_change_its_parameters(journal: Journal) -> None:
    journal.reserve(subject(), task(), training(), 1, 8)
    with pytest.raises(LedgerError, match="other parameters"):
        journal.reserve(subject(), task(), training("2"), 1, 8)
    with pytest.raises(LedgerError, match="other parameters"):
        journal.reserve(subject(), task(), training(), 2, 8)


def test_what_does_not_fit_is_denied_with_what_is_left(
    journal: Journal, store: FolderStore
) -> None:
    with pytest.raises(Denied, match=r"needs \d+\.\d% of the gate; 100\.0% is left"):
        journal.reserve(subject(), task(), training("0.3", 10_000))
    assert len(entries(journal, store)) == 1


def test_a_release_gives_back_and_the_charge_may_come_again(journal: Journal) -> None:
    charge = journal.reserve(subject(), task(), training(), 1, 8)
    assert journal.release(charge.id, "unneeded").status == "released"
    assert journal.state.reserved == 0
    assert journal.reserve(subject(), task(), training(), 1, 8).status == "reserved"
    assert journal.state.reserved == charge.cost


def test_what_started_is_never_released_and_what_is_released_never_starts(
    journal: Journal,
) -> None:
    one = journal.reserve(subject("one"), task(), training(), 1, 8).id
    two = journal.reserve(subject("two"), task(), training(), 1, 8).id
    journal.start(one, 1)
    journal.release(two, "unneeded")
    with pytest.raises(LedgerError, match="never released"):
        journal.release(one, "unneeded")
    with pytest.raises(LedgerError, match="released already"):
        journal.start(two, 1)


def test_an_attempt_starts_once_and_fences_the_one_before(journal: Journal) -> None:
    charge = journal.reserve(subject(), task(), training(), 1, 8).id
    with pytest.raises(LedgerError, match="attempt"):
        journal.intent(charge, 1, 0, 8)
    journal.start(charge, 1)
    with pytest.raises(LedgerError, match="attempt"):
        journal.start(charge, 1)
    journal.start(charge, 2)
    with pytest.raises(LedgerError, match="attempt"):
        journal.intent(charge, 1, 0, 8)
    journal.intent(charge, 2, 0, 8)
    with pytest.raises(LedgerError, match="restarts"):
        journal.start(charge, 3)


def test_intents_stay_within_the_block_and_the_reservation(journal: Journal) -> None:
    charge = journal.reserve(subject(), task(), training(steps=20), 0, 8).id
    journal.start(charge, 1)
    with pytest.raises(LedgerError, match="block"):
        journal.intent(charge, 1, 0, 9)
    journal.intent(charge, 1, 0, 8)
    journal.intent(charge, 1, 1, 8)
    with pytest.raises(LedgerError, match="reserved"):
        journal.intent(charge, 1, 2, 8)
    journal.intent(charge, 1, 2, 4)
    assert journal.commit(charge, "completed").cost == journal.state.committed
    assert journal.state.committed == journal.state.price(training(steps=20))


def test_blocks_come_in_turn(journal: Journal) -> None:
    charge = journal.reserve(subject(), task(), training(steps=80), 3, 8).id
    journal.start(charge, 1)
    with pytest.raises(LedgerError, match=r"block: 1 .* at most 0"):
        journal.intent(charge, 1, 1, 8)
    for block in range(4):
        journal.intent(charge, 1, block, 8)
    for block in (0, 3, 5):
        with pytest.raises(LedgerError, match=f"block: {block} .* must be 4"):
            journal.intent(charge, 1, block, 8)


@pytest.mark.parametrize("first", [0, 2, 3, 4])
def test_an_attempt_goes_on_from_any_checkpoint_that_can_be(first: int, journal: Journal) -> None:
    charge = journal.reserve(subject(), task(), training(steps=80), 3, 8).id
    journal.start(charge, 1)
    for block in range(4):
        journal.intent(charge, 1, block, 8)
    journal.start(charge, 2)
    with pytest.raises(LedgerError, match=r"block: 5 .* at most 4"):
        journal.intent(charge, 2, 5, 8)
    journal.intent(charge, 2, first, 8)
    with pytest.raises(LedgerError, match="block"):
        journal.intent(charge, 2, first + 2, 8)
    journal.intent(charge, 2, first + 1, 8)
    # An attempt that went on from an old checkpoint takes nothing from what there was before.
    journal.start(charge, 3)
    journal.intent(charge, 3, max(4, first + 2), 8)


def test_a_histogram_is_one_block_an_attempt(journal: Journal) -> None:
    charge = journal.reserve(subject(), task(), HISTOGRAM, 2).id
    for attempt in (1, 2):
        journal.start(charge, attempt)
        with pytest.raises(LedgerError, match="block: 1"):
            journal.intent(charge, attempt, 1, 1)
        journal.intent(charge, attempt, 0, 1)
        for block in (0, 1):
            with pytest.raises(LedgerError, match="block"):
                journal.intent(charge, attempt, block, 1)
    assert journal.commit(charge, "completed").cost == journal.state.price(HISTOGRAM)


def test_the_latest_charges_are_those_reserved_last(journal: Journal) -> None:
    names = ["b", "d", "a", "c"]
    for name in names:
        charge = journal.reserve(subject(name), task(), HISTOGRAM)
    journal.start(journal.state.latest(4)[-1].id, 1)
    assert [each.subject.name for each in journal.state.latest(3)] == ["c", "a", "d"]
    journal.release(charge.id, "unneeded")
    journal.reserve(subject("d"), task(1), HISTOGRAM)
    journal.reserve(subject("c"), task(), HISTOGRAM)
    assert [each.subject.name for each in journal.state.latest(9)] == ["c", "d", "a", "d", "b"]


def test_nothing_happens_to_a_settled_charge(journal: Journal) -> None:
    charge = journal.reserve(subject(), task(), training(), 1, 8).id
    journal.start(charge, 1)
    journal.commit(charge, "full")
    operations: list[Callable[[], object]] = [
        lambda: journal.start(charge, 2),
        lambda: journal.intent(charge, 1, 0, 1),
        lambda: journal.release(charge, "unneeded"),
    ]
    for operation in operations:
        with pytest.raises(LedgerError, match="committed already"):
            operation()


@pytest.mark.parametrize(
    "spelling", ["s3://private/chat", "S3://private/chat/", "s3://private/chat/"]
)
def test_two_spellings_of_one_data_set_share_a_journal(
    spelling: str, journal: Journal, store: FolderStore
) -> None:
    journal.reserve(subject(), task(), training())
    other = Journal(store, spelling)
    other.open(DATA.model_copy(update={"uri": spelling}), LIMIT, ORDER + 1)
    assert other.state == journal.state


@pytest.mark.parametrize(
    ("change", "named"),
    [({"records": 15_001}, "record count"), ({"textField": "text"}, "field")],
)
def test_another_description_of_the_data_is_refused(
    change: dict[str, object], named: str, journal: Journal
) -> None:
    with pytest.raises(LedgerError, match=named):
        journal.open(DATA.model_copy(update=change), LIMIT, ORDER)


def test_delta_stays_however_it_is_spelled(journal: Journal) -> None:
    journal.open(DATA, LIMIT.model_copy(update={"delta": "0.00001"}), ORDER)
    with pytest.raises(LedgerError, match="delta"):
        journal.open(DATA, LIMIT.model_copy(update={"delta": "1e-6"}), ORDER)


def test_the_limit_only_goes_down_and_never_below_what_was_given_out(journal: Journal) -> None:
    full = journal.state.limit_units
    journal.open(DATA, LIMIT.model_copy(update={"epsilon": "9"}), ORDER)
    assert journal.state.limit_units == full
    journal.open(DATA, LIMIT.model_copy(update={"epsilon": "7.9999999999999999"}), ORDER)
    assert journal.state.epsilon == "7.9999999999999999"
    journal.reserve(subject(), task(), training("0.75", 200))
    with pytest.raises(LedgerError, match="given out already"):
        journal.open(DATA, LIMIT.model_copy(update={"epsilon": "3.2"}), ORDER)


def test_a_charge_of_another_cluster_is_adopted_only_when_settled(journal: Journal) -> None:
    charge = journal.reserve(subject(), task(), training(), 1, 8).id
    with pytest.raises(LedgerError, match="held by cluster one"):
        journal.reserve(subject(cluster="two"), task(), training(), 1, 8)
    journal.start(charge, 1)
    journal.commit(charge, "full")
    assert journal.reserve(subject(cluster="two"), task(), training(), 1, 8).id == charge


def test_an_ended_budget_reserves_nothing(journal: Journal) -> None:
    journal.tombstone("budget deleted")
    with pytest.raises(Denied, match="ended"):
        journal.reserve(subject(), task(), training())


@pytest.mark.parametrize(
    "operation",
    [
        lambda j: j.start("nobody", 1),
        lambda j: j.start(task(9), 1),
        lambda j: j.intent(task(9), 1, 0, 1),
        lambda j: j.commit(task(9), "full"),
        lambda j: j.release(task(9), "unneeded"),
        lambda j: j.reserve(subject(), "digest", training()),
        lambda j: j.reserve(subject(), task(), training(), -1),
        lambda j: j.reserve(subject(), task(), training(), "1"),
        lambda j: j.reserve(
            subject(), task(), training().model_copy(update={"records": 10_000_000})
        ),
        lambda j: j.open(DATA, LIMIT.model_copy(update={"epsilon": "0.01"}), ORDER),
    ],
)
def test_a_bad_argument_is_a_ledger_error(
    operation: Callable[[Journal], object], journal: Journal, store: FolderStore
) -> None:
    with pytest.raises(LedgerError, match=r"^\w+.*: "):
        operation(journal)
    assert len(entries(journal, store)) == 1


@pytest.mark.parametrize(
    ("limit", "order"),
    [({"delta": "0.0"}, 4), ({"delta": "0.001"}, 4), ({"epsilon": "0"}, 4), ({}, 1), ({}, 2.5)],
)
def test_a_journal_does_not_open_with_a_bad_limit(
    limit: dict[str, str], order: int, store: FolderStore
) -> None:
    with pytest.raises(LedgerError):
        Journal(store, URI).open(DATA, LIMIT.model_copy(update=limit), order)
    assert not fresh(store).is_open


class LossyStore(FolderStore):
    """Loses the answer of chosen writes, after or before having written."""

    def __init__(self, folder: Path, written: bool) -> None:
        super().__init__(folder)
        self.written, self.lose = written, False

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        if not self.lose:
            return super().put_if_absent(uri, data)
        self.lose = False
        if self.written:
            super().put_if_absent(uri, data)
        raise StoreUnavailable(f"{uri}: no answer")


def test_a_lost_answer_is_looked_up(journal: Journal, tmp_path: Path) -> None:
    lossy = LossyStore(tmp_path, written=True)
    again = Journal(lossy, URI)
    lossy.lose = True
    charge = again.reserve(subject(), task(), training(), 1, 8)
    lossy.lose = True
    again.start(charge.id, 1)
    assert fresh(lossy).charge(charge.id).attempts == 1
    assert fresh(lossy).reserved == charge.cost


def test_a_write_that_failed_is_said_so_and_can_be_repeated(
    journal: Journal, tmp_path: Path
) -> None:
    lossy = LossyStore(tmp_path, written=False)
    again = Journal(lossy, URI)
    lossy.lose = True
    with pytest.raises(StoreUnavailable):
        again.reserve(subject(), task(), training(), 1, 8)
    assert again.reserve(subject(), task(), training(), 1, 8).status == "reserved"
    assert len(fresh(lossy).charges) == 1


class DeafStore(FolderStore):
    """Takes one write and then answers nothing at all, until it is well again."""

    def __init__(self, folder: Path, written: bool) -> None:
        super().__init__(folder)
        self.written, self.ill, self.catching = written, False, False

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        if not self.catching:
            return super().put_if_absent(uri, data)
        self.catching, self.ill = False, True
        if self.written:
            super().put_if_absent(uri, data)
        raise StoreUnavailable(f"{uri}: no answer")

    def get(self, uri: str) -> bytes:
        if self.ill:
            raise StoreUnavailable(f"{uri}: no answer")
        return super().get(uri)


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("restarted", [True, False])
def test_what_is_asked_again_after_silence_is_neither_lost_nor_doubled(
    restarted: bool, written: bool, tmp_path: Path
) -> None:
    deaf = DeafStore(tmp_path, written)
    journal = Journal(deaf, URI)

    def twice(operation: Callable[[Journal], object], retriable: bool = True) -> None:
        """The store goes silent over the first try; then the same is asked again."""
        nonlocal journal
        before = len(fresh(deaf).charges), fresh(deaf).head
        deaf.catching = True
        with pytest.raises(StoreUnavailable):
            operation(journal)
        deaf.ill = False
        assert (fresh(deaf).head != before[1]) == written
        journal = Journal(deaf, URI) if restarted else journal
        if retriable or not written:
            operation(journal)
        else:
            # It stands, and who is not sure of it may not go on.
            with pytest.raises(LedgerError):
                operation(journal)
        after = fresh(deaf).head
        assert after is not None
        assert after.sequence == (before[1].sequence + 1 if before[1] else 0)

    twice(lambda j: j.open(DATA, LIMIT, ORDER))
    twice(lambda j: j.reserve(subject(), task(), training(), 1, 8))
    charge = charge_id(URI, "team-a", "PrivateGenerator", "generator", task())
    twice(lambda j: j.start(charge, 1), retriable=False)
    twice(lambda j: j.intent(charge, 1, 0, 8), retriable=False)
    twice(lambda j: j.commit(charge, "completed"))
    twice(lambda j: j.reserve(subject("b"), task(), HISTOGRAM))
    twice(lambda j: j.release(charge_id(URI, "team-a", "PrivateGenerator", "b", task()), "x"))
    twice(lambda j: j.tombstone("budget deleted"))
    state = fresh(deaf)
    assert (state.committed, state.reserved) == (state.charge(charge).cost, 0)
    assert state.charge(charge).intended_steps == 8


class EchoStore(FolderStore):
    """Writes, then answers that the object exists: a write repeated by a layer below."""

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        super().put_if_absent(uri, data)
        return False


def test_the_echo_of_ones_own_write_is_ones_own(journal: Journal, tmp_path: Path) -> None:
    charge = journal.reserve(subject(), task(), training(), 1, 8)
    echo = EchoStore(tmp_path)
    assert Journal(echo, URI).start(charge.id, 1).attempts == 1
    head = fresh(echo).head
    assert head is not None
    assert head.sequence == 2


class RacedStore(FolderStore):
    """Another writer takes the entry just before one chosen write."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.before: Callable[[], object] | None = None

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        before, self.before = self.before, None
        if before is not None:
            before()
        return super().put_if_absent(uri, data)


def test_who_loses_the_race_decides_anew(journal: Journal, tmp_path: Path) -> None:
    charge = journal.reserve(subject(), task(), training(), 1, 8).id
    raced = RacedStore(tmp_path)
    loser = Journal(raced, URI)
    raced.before = lambda: journal.start(charge, 1)
    with pytest.raises(LedgerError, match="never released"):
        loser.release(charge, "unneeded")
    assert fresh(raced).charge(charge).status == "started"


def test_an_equal_entry_of_another_is_not_ones_own(journal: Journal, tmp_path: Path) -> None:
    charge = journal.reserve(subject(), task(), training(), 1, 8).id
    raced = RacedStore(tmp_path)

    def noon() -> datetime:
        return datetime(2030, 1, 1, 12, tzinfo=UTC)

    raced.before = lambda: Journal(FolderStore(tmp_path), URI, noon).start(charge, 1)
    with pytest.raises(LedgerError, match="attempt"):
        Journal(raced, URI, noon).start(charge, 1)


def test_two_last_reservations_do_not_both_fit(journal: Journal, tmp_path: Path) -> None:
    large = training("0.7", 300)
    assert journal.state.limit_units // 2 < journal.state.price(large) < journal.state.limit_units
    raced = RacedStore(tmp_path)
    raced.before = lambda: journal.reserve(subject("one"), task(), large)
    with pytest.raises(Denied):
        Journal(raced, URI).reserve(subject("two"), task(), large)


def test_a_remembered_entry_must_stay(journal: Journal, store: FolderStore) -> None:
    journal.reserve(subject(), task(), training())
    head = journal.state.head
    assert head is not None
    again = Journal(store, URI)
    again.refresh()
    again.check([Head(0, digest(entries(journal, store)[0].read_bytes())), head])
    for sequence in (-1, 0, head.sequence):
        with pytest.raises(EntryChanged, match="not the one"):
            again.check([Head(sequence, task())])
    with pytest.raises(JournalShortened, match=r"entry 2 .* ends with entry 1"):
        again.check([head, Head(2, head.digest)])
    for path in entries(journal, store):
        path.unlink()
    with pytest.raises(JournalShortened, match="empty"):
        read_to(Journal(store, URI), Head(0, head.digest))


def test_a_reader_comes_back_to_the_entry_it_knew(journal: Journal, store: FolderStore) -> None:
    journal.reserve(subject(), task(), training())
    last = entries(journal, store)[-1]
    kept = last.read_bytes()
    last.unlink()
    for operation in (journal.refresh, lambda: journal.reserve(subject("b"), task(), HISTOGRAM)):
        with pytest.raises(JournalShortened, match="entry 1 was there before and is gone"):
            operation()
    Journal(store, URI).reserve(subject("other"), task(), training())
    with pytest.raises(EntryChanged, match="entry 1 is not the one"):
        journal.reserve(subject(), task(1), training())
    last.write_bytes(kept)
    journal.reserve(subject(), task(1), training())


def test_a_journal_that_was_emptied_is_not_opened_again(
    journal: Journal, store: FolderStore
) -> None:
    entries(journal, store)[0].unlink()
    with pytest.raises(JournalShortened, match="gone"):
        journal.open(DATA, LIMIT, ORDER)
    assert entries(journal, store) == []


def rewrite(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    raw = json.loads(path.read_bytes())
    change(raw)
    path.write_bytes(json.dumps(raw, sort_keys=True, separators=(",", ":")).encode())


def read_to(journal: Journal, head: Head) -> None:
    journal.refresh()
    journal.check([head])


def filled(journal: Journal) -> str:
    charge = journal.reserve(subject(), task(), training(), 1, 8).id
    journal.start(charge, 1)
    journal.intent(charge, 1, 0, 8)
    journal.commit(charge, "completed")
    return charge


def test_an_edited_byte_is_found_wherever_it_is(journal: Journal, store: FolderStore) -> None:
    filled(journal)
    head = journal.state.head
    assert head is not None
    for path in entries(journal, store):
        whole = path.read_bytes()
        for place in range(0, len(whole), 7):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            again = Journal(store, URI)
            with pytest.raises(LedgerError):
                read_to(again, head)
        path.write_bytes(whole)
    assert fresh(store).head == head


def test_deleted_swapped_and_foreign_entries_are_found(
    journal: Journal, store: FolderStore
) -> None:
    filled(journal)
    head = journal.state.head
    assert head is not None
    paths = entries(journal, store)
    kept = [path.read_bytes() for path in paths]
    for index in range(len(paths)):
        paths[index].unlink()
        again = Journal(store, URI)
        again.refresh()
        assert again.state.head != head
        with pytest.raises(JournalTampered):
            again.check([Head(index, digest(kept[index])), head])
        paths[index].write_bytes(kept[index])
    for index in range(len(paths) - 1):
        paths[index].write_bytes(kept[index + 1])
        paths[index + 1].write_bytes(kept[index])
        with pytest.raises(JournalTampered):
            Journal(store, URI).refresh()
        paths[index].write_bytes(kept[index])
        paths[index + 1].write_bytes(kept[index + 1])
    other = Journal(store, "s3://private/other/")
    for path, data in zip(paths, kept, strict=True):
        copy = store.path(other.location) / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(data)
    with pytest.raises(JournalTampered, match="other data"):
        other.refresh()


@pytest.mark.parametrize(
    ("index", "change", "named"),
    [
        (0, lambda e: e["data"].update(uri="s3://private/chat"), "canonical"),
        (0, lambda e: e["limit"].update(epsilon="9"), "compartments"),
        (0, lambda e: e["compartments"][0]["gate"].update(kind="none"), "kind"),
        (1, lambda e: e.update(cost=e["cost"] - 1), "cost"),
        (1, lambda e: e.update(taskDigest=task(7)), "charge"),
        (1, lambda e: e["mechanism"].update(records=10_000_000), "records"),
        (1, lambda e: e["mechanism"].update(kind="laplace"), "mechanism"),
        (1, lambda e: e["head"].update(digest=task(7)), "head"),
        (1, lambda e: e.update(accountant="other/2"), "accountant"),
        (2, lambda e: e.update(attempt=2), "attempt"),
        (3, lambda e: e.update(cost=0), "cost"),
        (3, lambda e: e.update(steps=9), "steps"),
        (4, lambda e: e.update(cost=0), "cost"),
    ],
)
def test_a_well_formed_lie_is_found(
    index: int,
    change: Callable[[dict[str, object]], None],
    named: str,
    journal: Journal,
    store: FolderStore,
) -> None:
    filled(journal)
    rewrite(entries(journal, store)[index], lambda entry: change(entry["body"]))  # type: ignore[arg-type]
    with pytest.raises(LedgerError, match=named):
        Journal(store, URI).refresh()


def test_totals_must_add_up(journal: Journal, store: FolderStore) -> None:
    filled(journal)
    rewrite(
        entries(journal, store)[4],
        lambda entry: entry["totals"]["default"].update(committed=0),  # type: ignore[index]
    )
    with pytest.raises(JournalTampered, match="totals"):
        Journal(store, URI).refresh()


INSIDE = "s3://private/chat/en/2024/"


def test_a_prefix_inside_anothers_is_refused(journal: Journal, store: FolderStore) -> None:
    inside = Journal(store, INSIDE)
    with pytest.raises(LedgerError, match=f"{INSIDE} lies inside {URI}"):
        inside.open(DATA.model_copy(update={"uri": INSIDE}), LIMIT, ORDER)
    assert not inside.refresh().is_open
    assert not journal.open(DATA, LIMIT, ORDER).tombstoned


def test_a_prefix_around_anothers_is_refused(store: FolderStore) -> None:
    Journal(store, INSIDE).open(DATA.model_copy(update={"uri": INSIDE}), LIMIT, ORDER)
    for _ in range(2):
        with pytest.raises(LedgerError, match="inside"):
            Journal(store, URI).open(DATA, LIMIT, ORDER)
    with pytest.raises(Denied):
        Journal(store, URI).reserve(subject(), task(), training())


class BlinkingStore(FolderStore):
    """Fails to say, once, whether there is a mark."""

    blinks = 1

    def get(self, uri: str) -> bytes:
        if uri == f"{location(URI)}{MARK}" and self.blinks:
            self.blinks -= 1
            raise StoreUnavailable(uri)
        return super().get(uri)


def test_a_prefix_around_anothers_gives_nothing_out_if_it_could_not_look(tmp_path: Path) -> None:
    store = BlinkingStore(tmp_path)
    inner = Journal(store, INSIDE)
    inner.open(DATA.model_copy(update={"uri": INSIDE}), LIMIT, ORDER)
    with pytest.raises(StoreUnavailable):
        Journal(store, URI).open(DATA, LIMIT, ORDER)
    outer = Journal(store, URI)
    assert outer.refresh().is_open
    with pytest.raises(LedgerError, match="inside"):
        outer.reserve(subject(), task(), training())
    assert outer.refresh().tombstoned
    assert inner.reserve(subject(), task(), training()).active


@pytest.mark.parametrize(("mechanism", "steps"), [(training(), 7), (HISTOGRAM, 0)])
def test_what_was_not_intended_is_not_completed_but_paid_in_full(
    mechanism: Mechanism, steps: int, journal: Journal, store: FolderStore
) -> None:
    charge = journal.reserve(subject(), task(), mechanism, 1, 8)
    journal.start(charge.id, 1)
    if steps:
        journal.intent(charge.id, 1, 0, steps)
    settled = journal.commit(charge.id, "completed")
    assert (settled.basis, settled.cost) == ("full", charge.cost)
    cheap = {"basis": "completed", "cost": settled.intended_cost}
    rewrite(entries(journal, store)[-1], lambda entry: entry["body"].update(cheap))  # type: ignore[attr-defined]
    with pytest.raises(JournalTampered, match="not all its steps were intended"):
        Journal(store, URI).refresh()


def test_of_two_nested_prefixes_opened_at_once_at_most_one_opens(tmp_path: Path) -> None:
    outer, inner = Journal(FolderStore(tmp_path), URI), RacedStore(tmp_path)
    inner.before = lambda: outer.open(DATA, LIMIT, ORDER)
    with pytest.raises(LedgerError, match="lies inside"):
        Journal(inner, INSIDE).open(DATA.model_copy(update={"uri": INSIDE}), LIMIT, ORDER)


def test_a_neighbour_is_no_relative(journal: Journal, store: FolderStore) -> None:
    uri = "s3://private/chat-2/"
    assert Journal(store, uri).open(DATA.model_copy(update={"uri": uri}), LIMIT, ORDER).is_open
    assert journal.open(DATA, LIMIT, ORDER).is_open
