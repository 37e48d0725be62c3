"""Entries: one byte string each; everything else is refused by name, never by a traceback."""

import json
from typing import Any

import pytest
from palimpsest.ledger import Journal, LedgerError
from palimpsest.ledger.entries import parse
from unit.ledger.folder_store import DATA, LIMIT, ORDER, URI, FolderStore, subject, task, training


@pytest.fixture
def lines(tmp_path: Any) -> dict[str, bytes]:
    """One entry of every kind, by kind."""
    store = FolderStore(tmp_path)
    journal = Journal(store, URI)
    journal.open(DATA, LIMIT, ORDER)
    journal.open(DATA, LIMIT.model_copy(update={"epsilon": "7"}), ORDER)
    charge = journal.reserve(subject(), task(), training(), 1, 8).id
    journal.start(charge, 1)
    journal.intent(charge, 1, 0, 8)
    journal.commit(charge, "completed")
    journal.release(journal.reserve(subject("other"), task(), training(), 1, 8).id, "unneeded")
    journal.tombstone("budget deleted")
    files = sorted(store.path(journal.location).iterdir())
    return {json.loads(file.read_bytes())["kind"]: file.read_bytes() for file in files}


KINDS = ["open", "tighten", "reserve", "start", "intent", "commit", "release", "tombstone"]
BAD_VALUES: list[Any] = [
    None,
    True,
    [],
    {},
    -1,
    1.5,
    float("nan"),
    float("inf"),
    10**40,
    "",
    "NaN",
    "Infinity",
    "1e400",
    "\u0661",
    "\ud800",
    "9" * 10_000,
]


FREE_TEXT = {"basis", "textField", "journal", "uri", "namespace", "name", "cluster"}


def legal(kind: str, path: tuple[Any, ...], value: Any) -> bool:
    """Whether the value has the field's type: the replay judges it then, not the parser."""
    field, holder = path[-1], path[-2] if len(path) > 1 else None
    if field in ("previous", "slot"):
        return value is None
    free = field in FREE_TEXT or (holder, field) == ("subject", "kind")
    if free and not (kind == "commit" and field == "basis"):
        return isinstance(value, str) and 0 < len(value) <= 512 and value != "\ud800"
    return False


def dumps(raw: Any) -> bytes:
    return json.dumps(raw, sort_keys=True, separators=(",", ":")).encode()


def test_every_kind_round_trips(lines: dict[str, bytes]) -> None:
    assert sorted(lines) == sorted(KINDS)
    for data in lines.values():
        assert parse(data).to_bytes() == data


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_value_anywhere_is_a_refusal_that_names_the_field(
    kind: str, lines: dict[str, bytes]
) -> None:
    entry = json.loads(lines[kind])

    def places(node: Any, path: tuple[Any, ...] = ()) -> Any:
        if isinstance(node, dict | list):
            for key in node if isinstance(node, dict) else range(len(node)):
                yield (*path, key)
                yield from places(node[key], (*path, key))

    for path in places(entry):
        for bad in BAD_VALUES:
            raw = json.loads(lines[kind])
            holder = raw
            for key in path[:-1]:
                holder = holder[key]
            if legal(kind, path, bad):
                continue
            holder[path[-1]] = bad
            with pytest.raises(LedgerError) as refused:
                parse(dumps(raw))
            assert len(str(refused.value)) < 300


@pytest.mark.parametrize("kind", KINDS)
def test_fields_are_neither_missing_nor_unknown(kind: str, lines: dict[str, bytes]) -> None:
    entry = json.loads(lines[kind])
    for field in entry:
        with pytest.raises(LedgerError):
            parse(dumps({key: value for key, value in entry.items() if key != field}))
    for field in entry["body"]:
        body = {key: value for key, value in entry["body"].items() if key != field}
        with pytest.raises(LedgerError, match=field):
            parse(dumps({**entry, "body": body}))
    with pytest.raises(LedgerError, match="extra"):
        parse(dumps({**entry, "extra": 1}))
    with pytest.raises(LedgerError, match="extra"):
        parse(dumps({**entry, "body": {**entry["body"], "extra": 1}}))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b"{",
        b'{"kind":[]}',
        b'{"kind":"grant"}',
        b'{"kind":NaN}',
        b"[" * 50_000,
        b"9" * 10_000,
        b" " * 100_000,
    ],
)
def test_what_is_no_entry_is_refused(data: bytes) -> None:
    with pytest.raises(LedgerError):
        parse(data)


def test_only_canonical_bytes_are_an_entry(lines: dict[str, bytes]) -> None:
    data = lines["reserve"]
    doubled = data.replace(b'"version":1', b'"version":1,"version":1')
    spaced = json.dumps(json.loads(data), sort_keys=True).encode()
    for other in (doubled, spaced, data + b"\n"):
        with pytest.raises(LedgerError, match="canonical"):
            parse(other)
