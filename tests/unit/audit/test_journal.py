"""Every tampering with a journal of 200 entries is found."""

import re
from collections.abc import Callable

import pytest
from palimpsest.audit.findings import Code, Finding
from palimpsest.audit.journal import Anchor, check_anchors
from palimpsest.ledger.entries import digest
from palimpsest.ledger.state import Head
from unit.audit.ground import PLACE, Objects, built, name, reforged, replayed

ENTRIES = 200
LAST = ENTRIES - 1
OTHERS = "s3://private/other/"


@pytest.fixture(scope="module")
def journal() -> Objects:
    return built(ENTRIES)


@pytest.fixture(scope="module")
def anchor(journal: Objects) -> Anchor:
    return Anchor(Head(LAST, digest(journal[name(LAST)])), "a status")


def findings(objects: Objects, *anchors: Anchor) -> list[Finding]:
    found = replayed(objects)
    return [*found.findings, *check_anchors(found, anchors, PLACE)]


def codes(objects: Objects, *anchors: Anchor) -> set[Code]:
    return {finding.code for finding in findings(objects, *anchors)}


def test_an_untouched_journal_is_sound(journal: Objects, anchor: Anchor) -> None:
    kinds = {moment.entry for moment in replayed(journal).moments}
    assert kinds == {"open", "tighten", "reserve", "start", "intent", "commit", "release"}
    assert findings(journal, anchor) == []
    beside = {"nested": b"", "conditional-write-probe": b"first"}
    assert findings(journal | beside, anchor) == []


# -- edited bytes ---------------------------------------------------------------------------------


def other(data: bytes, position: int) -> bytes:
    """Another byte of the same class, which is the harder one to find: a digit for a digit."""
    byte = data[position]
    if chr(byte).isdigit():
        swapped = b"1" if byte == ord("0") else b"0"
    elif chr(byte).isalpha():
        swapped = b"b" if byte == ord("a") else b"a"
    else:
        swapped = b"x"
    return data[:position] + swapped + data[position + 1 :]


def undetected(journal: Objects, anchor: Anchor, sequence: int) -> list[int]:
    """Positions of an entry whose edit is not found."""
    data = journal[name(sequence)]
    return [
        position
        for position in range(len(data))
        if not findings(journal | {name(sequence): other(data, position)}, anchor)
    ]


# One of each kind that spends, and the last, which no entry vouches for.
@pytest.mark.parametrize("sequence", [1, 3, LAST])
def test_any_byte_of_an_entry(journal: Objects, anchor: Anchor, sequence: int) -> None:
    assert undetected(journal, anchor, sequence) == []


@pytest.mark.full
@pytest.mark.parametrize("part", range(20))
def test_any_byte_of_any_entry(journal: Objects, anchor: Anchor, part: int) -> None:
    for sequence in range(part, ENTRIES, 20):
        assert undetected(journal, anchor, sequence) == []


@pytest.mark.parametrize(
    "edit",
    [
        lambda data: data + b" ",
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda _: b"",
        lambda _: b"{}",
        lambda _: b"[" * 60_000,
        lambda _: b"9" * 60_000,
        lambda data: b"\xff" + data,
        lambda data: data.replace(b'"kind"', b'"Kind"'),
        lambda data: data.replace(b"{", b'{"more":1,', 1),
        lambda data: re.sub(rb'"committed":[0-9]+', b'"committed":NaN', data),
        lambda data: re.sub(rb'"committed":[0-9]+', b'"committed":1e400', data),
        lambda data: re.sub(rb'"committed":[0-9]+', b'"committed":' + b"9" * 10_000, data),
    ],
)
def test_what_is_no_entry_is_said_to_be_none(
    journal: Objects, edit: Callable[[bytes], bytes]
) -> None:
    forged = journal | {name(40): edit(journal[name(40)])}
    found = [each for each in findings(forged) if each.code is Code.J003]
    assert [each.place for each in found] == [f"{PLACE}{name(40)}"]
    assert len(found[0].line()) < 1000


# -- whole entries --------------------------------------------------------------------------------


def test_any_entry_deleted(journal: Objects, anchor: Anchor) -> None:
    for sequence in range(ENTRIES):
        left = {file: data for file, data in journal.items() if file != name(sequence)}
        expected = Code.J002 if sequence < LAST else Code.J007
        assert expected in codes(left, anchor), sequence


def test_any_entries_deleted_and_the_rest_renumbered(journal: Objects, anchor: Anchor) -> None:
    for sequence in range(0, ENTRIES, 7):
        kept = [data for file, data in sorted(journal.items()) if file != name(sequence)]
        left = {name(number): data for number, data in enumerate(kept)}
        assert {Code.J004, Code.J007} & codes(left, anchor), sequence


def test_any_neighbours_swapped(journal: Objects, anchor: Anchor) -> None:
    for sequence in range(LAST):
        here, there = name(sequence), name(sequence + 1)
        swapped = journal | {here: journal[there], there: journal[here]}
        assert Code.J004 in codes(swapped, anchor), sequence


def test_an_entry_copied_over_another(journal: Objects, anchor: Anchor) -> None:
    for sequence in range(1, ENTRIES):
        forged = journal | {name(sequence): journal[name(sequence - 1)]}
        assert Code.J004 in codes(forged, anchor), sequence


def test_any_truncation(journal: Objects, anchor: Anchor) -> None:
    for length in range(ENTRIES):
        left = {name(sequence): journal[name(sequence)] for sequence in range(length)}
        assert Code.J007 in codes(left, anchor), length


def test_a_truncation_that_nobody_remembers_cannot_be_found(journal: Objects) -> None:
    assert findings({name(0): journal[name(0)]}) == []


def test_any_fork(journal: Objects, anchor: Anchor) -> None:
    """From some entry on another history, sound in itself: only the anchor tells."""
    for sequence in range(0, ENTRIES, 9):
        fork = dict(sorted(journal.items()))
        data = fork[name(sequence)]
        nonce = re.sub(rb'"nonce":"[0-9a-f]{32}"', b'"nonce":"' + b"0" * 32 + b'"', data)
        fork[name(sequence)] = nonce
        forked = reforged(fork, sequence)
        assert findings(forked) == []
        assert Code.J008 in codes(forked, anchor), sequence


def test_a_cheaper_price_is_found_however_well_it_is_chained(journal: Objects) -> None:
    reserve = next(
        number
        for number, moment in enumerate(replayed(journal).moments)
        if moment.entry == "reserve"
    )
    found = findings(reforged(journal, reserve, cost=1))
    assert found[0].code is Code.J005
    assert "cost" in found[0].what


# -- other journals -------------------------------------------------------------------------------


def test_another_budgets_journal(journal: Objects, anchor: Anchor) -> None:
    others = built(ENTRIES, OTHERS)
    assert {Code.J006, Code.J008} <= codes(others, anchor)
    assert codes(others) == {Code.J006}


def test_any_entry_of_another_budgets_journal(journal: Objects, anchor: Anchor) -> None:
    others = built(ENTRIES, OTHERS)
    for sequence in range(ENTRIES):
        forged = journal | {name(sequence): others[name(sequence)]}
        assert codes(forged, anchor), sequence


@pytest.mark.parametrize(
    "stranger",
    ["5.json", "0000000000005.json", "000000000005.json.bak", "x", "a/000000000000.json"],
)
def test_strangers_in_the_folder(journal: Objects, stranger: str) -> None:
    found = findings(journal | {stranger: journal[name(5)]})
    assert [(each.code, each.place) for each in found] == [(Code.J001, PLACE + stranger)]


def test_a_far_stranger_costs_no_time(journal: Objects) -> None:
    found = findings(journal | {"999999999999.json": journal[name(5)]})
    assert found[0].code is Code.J002
    assert "entry 200, 201, 202, 203, 204 and 999999999794 more missing" in found[0].what


def test_nothing_there() -> None:
    assert codes({}) == {Code.J009}
    assert codes({"nested": b""}) == {Code.J009}


def test_a_finding_is_one_line_whatever_is_in_it() -> None:
    line = Finding(Code.J001, "s3://a/b", "x\n\x1b[31m\u202e" + "y" * 10_000).line()
    assert line.isprintable()
    assert len(line) < 800
