"""What the operator remembers of a journal must stay in it; else nothing is reserved."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from palimpsest.api.budget import PrivacyBudget
from palimpsest.api.task import Subject
from palimpsest.ledger import Journal, LedgerError, LedgerState
from palimpsest.reconcile.adapter.ledgers import Ledgers
from palimpsest.reconcile.observed import LedgerTrouble
from palimpsest.reconcile.plan import Commit, LedgerAction, Open, Release, Reserve
from palimpsest.storage import AccessDenied, StoreUnavailable
from pydantic import ValidationError
from unit.ledger.folder_store import HISTOGRAM, FolderStore, task
from unit.reconcile.budgets import URI, budget, paths, reader, remembering

INSIDE = URI + "en/"


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


@pytest.fixture
def spent(store: FolderStore) -> LedgerState:
    """A journal of four entries, and what it says."""
    operator = reader(store)
    operator.execute(budget(), Open())
    for number in range(3):
        operator.execute(budget(), reserve(number))
    return sound(operator, budget())


def reserve(number: int) -> Reserve:
    subject = Subject(namespace="team-a", kind="SyntheticDataset", name="chat")
    return Reserve(f"charge {number}", subject, task(number), HISTOGRAM, 0, 1)


def sound(operator: Ledgers, of: PrivacyBudget) -> LedgerState:
    state = operator.state(of)
    assert isinstance(state, LedgerState), state
    return state


def finding(operator: Ledgers, of: PrivacyBudget) -> str:
    """Why the journal is not trusted; and whatever is asked for then is refused, unwritten."""
    trouble = operator.state(of)
    assert isinstance(trouble, LedgerTrouble)
    assert trouble.unsound
    assert "Nothing is reserved" in trouble.message
    actions: list[LedgerAction] = [Open(), reserve(9), Commit(task(), "full"), Release(task())]
    for action in actions:
        with pytest.raises(LedgerError):
            operator.execute(of, action)
    again = operator.state(of)
    assert isinstance(again, LedgerTrouble)
    assert again.reason == trouble.reason
    return trouble.reason


def cut(store: FolderStore, keep: int) -> Callable[[], None]:
    """Keep the first entries only; calling the answer brings the others back."""
    gone = {path: path.read_bytes() for path in paths(store)[keep:]}
    for path in gone:
        path.unlink()

    def restore() -> None:
        for path, data in gone.items():
            path.write_bytes(data)

    return restore


@pytest.mark.parametrize("keep", [0, 1, 3])
def test_a_journal_shorter_than_the_status_is_not_used(
    keep: int, store: FolderStore, spent: LedgerState
) -> None:
    restore = cut(store, keep)
    operator = reader(store)
    assert finding(operator, remembering(spent)) == "JournalShorterThanStatus"
    assert len(paths(store)) == keep
    restore()
    assert sound(operator, remembering(spent)) == spent


@pytest.mark.parametrize("keep", [0, 1, 3])
def test_a_journal_shorter_than_what_the_operator_read_is_not_used(
    keep: int, store: FolderStore, spent: LedgerState
) -> None:
    operator = reader(store)
    sound(operator, budget())
    restore = cut(store, keep)
    assert finding(operator, budget()) == "JournalShorterThanRemembered"
    assert len(paths(store)) == keep
    restore()
    assert sound(operator, budget()) == spent


def test_an_entry_that_the_operator_wrote_itself_must_stay(
    store: FolderStore, spent: LedgerState
) -> None:
    operator = reader(store)
    operator.execute(budget(), reserve(7))
    cut(store, 4)
    assert finding(operator, budget()) == "JournalShorterThanRemembered"


def test_another_entry_where_one_is_remembered_is_not_used(
    store: FolderStore, spent: LedgerState
) -> None:
    operator = reader(store)
    sound(operator, budget())
    cut(store, 2)
    forger = reader(store)
    for number in (4, 5, 6):
        forger.execute(budget(), reserve(number))
    assert finding(operator, budget()) == "JournalEntryChanged"
    assert finding(reader(store), remembering(spent)) == "JournalEntryChanged"


def test_an_edited_entry_is_found_by_who_reads_it_all(
    store: FolderStore, spent: LedgerState
) -> None:
    path = paths(store)[2]
    data = path.read_bytes()
    path.write_bytes(data.replace(b"team-a", b"team-b"))
    operator = reader(store)
    assert finding(operator, remembering(spent)) == "LedgerUnsound"
    path.write_bytes(data)
    assert sound(operator, remembering(spent)) == spent


def test_a_status_behind_the_journal_is_no_finding(store: FolderStore, spent: LedgerState) -> None:
    earlier = remembering(spent)
    operator = reader(store)
    operator.execute(earlier, reserve(7))
    assert sound(reader(store), earlier) == sound(operator, earlier) != spent


def test_a_budget_made_again_finds_its_spending(store: FolderStore, spent: LedgerState) -> None:
    operator = reader(store)
    operator.execute(budget(), Open())
    operator.execute(budget(), reserve(0))
    assert sound(operator, budget()) == spent


class MoodyStore(FolderStore):
    """Refuses to read while it is in a mood."""

    mood: Exception | None = None

    def get(self, uri: str) -> bytes:
        if self.mood is not None:
            raise self.mood
        return super().get(uri)


@pytest.mark.parametrize(
    ("mood", "reason"),
    [(StoreUnavailable("no"), "StoreUnavailable"), (AccessDenied("no"), "StoreAccessDenied")],
)
def test_a_store_that_does_not_answer_is_no_finding_and_no_licence(
    mood: Exception, reason: str, store: FolderStore, spent: LedgerState
) -> None:
    moody = MoodyStore(store.folder)
    operator = reader(moody)
    sound(operator, budget())
    moody.mood = mood
    for asked in (operator, reader(moody)):
        trouble = asked.state(remembering(spent))
        assert isinstance(trouble, LedgerTrouble)
        assert (trouble.reason, trouble.unsound) == (reason, False)
        with pytest.raises(type(mood)):
            asked.execute(budget(), reserve(9))
    moody.mood = None
    assert sound(operator, remembering(spent)) == spent
    # What was read before the outage is still held against what is read after it.
    moody.mood = mood
    operator.state(budget())
    moody.mood = None
    cut(store, 2)
    assert finding(operator, budget()) == "JournalShorterThanRemembered"


class HangingStore(FolderStore):
    """Answers about the journals of `stuck` only when `go` is set."""

    stuck = "s3://private/.palimpsest/stuck/"
    asked = threading.Event()
    go = threading.Event()

    def get(self, uri: str) -> bytes:
        if uri.startswith(self.stuck):
            self.asked.set()
            self.go.wait(20)
        return super().get(uri)


def test_a_store_that_hangs_holds_no_other_journal_up(
    store: FolderStore, spent: LedgerState
) -> None:
    hanging = HangingStore(store.folder)
    operator = reader(hanging)
    other = budget(uri="s3://private/stuck/")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(operator.state, other)
        try:
            assert hanging.asked.wait(10)
            began = time.monotonic()
            assert pool.submit(sound, operator, budget()).result(5) == spent
            pool.submit(operator.execute, budget(), reserve(7)).result(5)
            assert time.monotonic() - began < 1
            assert not waiting.done()
        finally:
            hanging.go.set()


@pytest.mark.parametrize("uri", ["s3://private/", "s3://private/x/../chat/", "s3://private/./a/"])
def test_a_uri_that_names_no_one_prefix_is_refused_with_the_reason(
    uri: str, store: FolderStore
) -> None:
    trouble = reader(store).state(budget(uri=uri))
    assert isinstance(trouble, LedgerTrouble)
    assert trouble.reason == "UriInvalid"
    assert uri in trouble.message


def test_a_prefix_inside_anothers_is_refused_with_the_reason(
    store: FolderStore, spent: LedgerState
) -> None:
    trouble = reader(store).state(budget(uri=INSIDE))
    assert isinstance(trouble, LedgerTrouble)
    assert trouble.reason == "UriNested"
    assert f"{INSIDE} lies inside {URI}" in trouble.message


def test_a_prefix_around_anothers_ends_before_it_begins(store: FolderStore) -> None:
    operator = reader(store)
    operator.execute(budget(uri=INSIDE), Open())
    with pytest.raises(LedgerError, match="inside"):
        operator.execute(budget(), Open())
    assert sound(operator, budget()).tombstoned
    assert not sound(operator, budget(uri=INSIDE)).tombstoned


def test_two_budgets_of_one_data_set_meet_in_one_journal(
    store: FolderStore, spent: LedgerState
) -> None:
    operator = reader(store)
    other = remembering(spent)
    assert sound(operator, budget()) == sound(operator, other) == spent
    operator.execute(other, reserve(7))
    cut(store, 4)
    assert finding(operator, budget()) == "JournalShorterThanRemembered"


@pytest.mark.parametrize(
    "uri",
    [
        "s3://private/chat",
        "S3://private/chat/",
        "s3://Private/chat/",
        "s3://private//chat/",
        "s3://private/chat//",
        "s3://private/ch%61t/",
        "s3://private/chat%2F",
        "s3://private:443/chat/",
        "s3://keys@private/chat/",
        "s3://private/chat/?x",
        "https://private/chat/",
    ],
)
def test_another_spelling_is_no_budget_of_these_data(uri: str) -> None:
    with pytest.raises(ValidationError, match=r"spec\.dataset\.uri"):
        budget(uri=uri)


def test_a_limit_that_leaves_nothing_does_not_open(store: FolderStore) -> None:
    with pytest.raises(LedgerError, match="epsilon"):
        reader(store).execute(budget(epsilon="0.01"), Open())
    assert paths(store) == []
    assert not Journal(store, URI).refresh().is_open
