"""Answers by themselves: how they end, when an endpoint is asked again, and what they add up to."""

from __future__ import annotations

import itertools
import json
import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from palimpsest.api.annotation import TokenPrices
from palimpsest.api.outcomes import EXIT_CODES, MESSAGES, Outcome
from palimpsest_stage.answers.endpoint import parse_reply
from palimpsest_stage.answers.finish import (
    REFUSALS,
    Finish,
    finish_of,
    refuses,
    usable,
    usable_answers,
)
from palimpsest_stage.answers.kept import Answer, Answered, Part, cost
from palimpsest_stage.answers.policy import (
    LONGEST_PAUSE,
    PASSING,
    Gate,
    Patience,
    backoff,
    retry_after,
    status_outcome,
)
from unit.stage.chat_server import completion

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SEEN = st.sampled_from(sorted(PASSING))


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_pauses_are_bounded_and_on_average_longer_the_more_failed(
    failures: int, chance: float
) -> None:
    assert 0 <= backoff(failures, chance) <= LONGEST_PAUSE
    assert backoff(failures, chance) <= backoff(failures + 1, chance)


@given(st.integers(0, 10**6))
def test_retry_after_is_read_as_seconds_and_as_a_date(seconds: int) -> None:
    assert retry_after(str(seconds), NOW) == seconds
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert retry_after(date, NOW) == seconds


@given(st.text())
def test_any_other_retry_after_counts_for_nothing(header: str) -> None:
    found = retry_after(header, NOW)
    assert found is None or (found >= 0 and math.isfinite(found))
    assert retry_after(None, NOW) is None


@pytest.mark.parametrize("header", ["-5", "Thu, 01 Jan 1970 00:00:00 GMT", "1e-3"])
def test_a_moment_that_has_passed_asks_for_no_pause(header: str) -> None:
    assert retry_after(header, NOW) == pytest.approx(0, abs=1e-2)


@pytest.mark.parametrize(
    "header",
    [
        "nan",
        "inf",
        "-inf",
        "1e400",
        "9" * 400,
        "soon",
        "",
        "Thu, 99 Foo 2026",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 2029 00:00:99999999999999999999 GMT",
        "Mon, 01 Jan 2029 00:00:00 +99999999999999999999",
    ],
)
def test_what_is_no_time_is_no_pause(header: str) -> None:
    assert retry_after(header, NOW) is None


@given(st.integers(100, 599).filter(lambda status: status != 200))
def test_every_status_means_something(status: int) -> None:
    outcome = status_outcome(status)
    assert outcome is None or outcome.of_the_endpoint


def test_each_outcome_of_an_endpoint_has_a_code_of_its_own_and_a_remedy() -> None:
    outcomes = [outcome for outcome in Outcome if outcome.of_the_endpoint]
    assert len({EXIT_CODES[outcome] for outcome in outcomes}) == len(outcomes) == 8
    assert all(outcome.of_the_program for outcome in outcomes)
    assert all("answered is kept" in " ".join(MESSAGES[o].split()) for o in outcomes)


@given(st.integers(1, 600), st.lists(st.floats(0, 10), min_size=1, max_size=50))
def test_a_gate_lets_so_many_through_in_a_minute(per_minute: int, steps: list[float]) -> None:
    gate, now, passed = Gate(per_minute), 0.0, list[float]()
    for step in steps:
        now += step
        waits = list[float]()
        while wait := gate.wait(now):
            waits.append(wait)
            now = max(now + wait, math.nextafter(now, math.inf))
        # Who waits as long as it says goes next, but for rounding.
        assert sum(waits[1:]) < 1e-9
        passed.append(now)
    gaps = [later - earlier for earlier, later in itertools.pairwise(passed)]
    assert all(gap >= 60 / per_minute * (1 - 1e-9) for gap in gaps)


def test_a_gate_that_is_held_lets_nothing_through_before() -> None:
    gate = Gate(None)
    assert gate.wait(1.0) == 0
    gate.hold(10.0)
    gate.hold(5.0)
    assert gate.wait(2.0) == 8.0
    assert gate.wait(10.0) == 0


@given(st.lists(st.tuples(SEEN, st.floats(0, 1)), min_size=1, max_size=30))
def test_patience_runs_from_the_first_failure_after_a_success(
    failures: list[tuple[Outcome, float]],
) -> None:
    patience, now = Patience(100), 50.0
    assert patience.left(now) == math.inf
    patience.success(now)
    begun = now
    for seen, later in failures:
        patience.failure(seen, now)
        now += later
    assert patience.left(begun + 40) == pytest.approx(60)
    assert patience.left(begun + 1000) == 0
    outcomes = [outcome for outcome, _ in failures]
    assert outcomes.count(patience.mostly) == max(outcomes.count(each) for each in outcomes)
    patience.success(now)
    assert patience.left(now + 10**6) == math.inf
    # One that was under way when the success came does not date the trouble before that.
    patience.failure(Outcome.ENDPOINT_FAILING, now - 30)
    assert patience.left(now) == pytest.approx(100)


@pytest.mark.parametrize("opening", REFUSALS)
def test_refusals_are_known_by_how_they_begin(opening: str) -> None:
    assert refuses(f"  {opening.upper()} ...")
    assert refuses(opening.replace("'", "\u2019").replace(" ", "\n ") + "t do that")
    assert not refuses(f"He said: {opening}")


@pytest.mark.parametrize(
    ("text", "cut", "refused", "finish"),
    [
        ("Yes.", False, False, Finish.STOP),
        ("Yes, and", True, False, Finish.LENGTH),
        (" \n", True, False, Finish.EMPTY),
        ("As an AI, I", True, False, Finish.REFUSAL),
        ("", False, True, Finish.REFUSAL),
        ("I can't recommend it enough.", False, False, Finish.STOP),
        ("Sorry to hear that. Send it back.", False, False, Finish.STOP),
    ],
)
def test_how_an_answer_ended(text: str, cut: bool, refused: bool, finish: Finish) -> None:
    assert finish_of(text, cut, refused) is finish


def test_only_answers_that_ended_well_are_learnt_from_and_others_counted() -> None:
    rows: list[dict[str, Any]] = [
        {"answer": "a", "finish": "stop"},
        {"answer": "b", "finish": "length"},
        {"answer": "I'm unable to", "finish": "refusal"},
        {"answer": "", "finish": "empty"},
        {"answer": "", "finish": "rejected"},
        {"answer": "of a data set without marks"},
        {"instruction": "without an answer"},
    ]
    kept, left = usable(rows)
    assert [row["answer"] for row in kept] == ["a", "b", "of a data set without marks"]
    assert left == {"empty": 1, "refusal": 1, "rejected": 1, "unanswered": 1}


@given(st.binary())
def test_no_body_is_an_answer_by_accident(data: bytes) -> None:
    assert parse_reply(data) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.sampled_from(["choices", "message", "content", "usage", "count", "all"]))
def test_a_completion_with_anything_in_it_is_read_or_refused(value: Any, where: str) -> None:
    document: Any = completion("Yes", "stop")
    if where == "choices":
        document["choices"] = value
    elif where == "message":
        document["choices"][0]["message"] = value
    elif where == "content":
        document["choices"][0]["message"]["content"] = value
    elif where == "usage":
        document["usage"] = value
    elif where == "count":
        document["usage"]["completion_tokens"] = value
    else:
        document = value
    reply = parse_reply(json.dumps(document).encode())
    if reply is not None:
        assert reply.text.encode().decode() == reply.text
        assert reply.tokens_out is None or reply.tokens_out >= 0


def answers(rows: int, each: int) -> list[Answer]:
    return [
        Answer(row, number, f"{row}/{number}", Finish.STOP, 2, 3)
        for row in range(rows)
        for number in range(each)
    ]


@given(st.integers(0, 6), st.integers(1, 4), st.randoms(), st.integers(0, 3))
def test_whatever_order_they_come_in_each_place_has_one_answer(
    count: int, each: int, chance: Any, again: int
) -> None:
    given_answers = answers(count, each)
    came = given_answers * (1 + again)
    chance.shuffle(came)
    # Of another input's place: nobody's.
    strays = [Answer(count, 0, "stray", Finish.STOP), Answer(0, each, "stray", Finish.STOP)]
    answered = Answered(count, each)
    half = len(came) // 2
    for some in (came[:half], strays, came[half:]):
        answered.add(Part.parse(json.loads(json.dumps(Part(some, len(some)).document))))
    assert (answered.done, answered.missing()) == (count * each, [])
    assert answered.tokens == 3 * count * each
    rows = answered.rows([{"id": str(row)} for row in range(count)])
    assert [row["answer"] for row in rows] == [f"{row}/0" for row in range(count)]
    if each > 1:
        assert all(
            row["answers"] == [f"{index}/{number}" for number in range(each)]
            for index, row in enumerate(rows)
        )
    told = answered.report(None)
    assert told["tokens"] == {"in": 2 * count * each, "out": 3 * count * each}
    assert told["cost"] is None


def test_an_instruction_without_an_answer_is_never_published() -> None:
    answered = Answered(2, 1)
    answered.add(Part(answers(1, 1)))
    with pytest.raises(KeyError):
        answered.rows([{"id": "0"}, {"id": "1"}])


@pytest.mark.parametrize(
    "document", [None, [], {}, {"answers": [{}]}, {"answers": 3, "requests": 1, "retries": {}}]
)
def test_a_part_that_cannot_be_read_is_none(document: Any) -> None:
    assert Part.parse(document) == Part()


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_costs_are_exact(tokens_in: int, tokens_out: int) -> None:
    told = cost(tokens_in, tokens_out, TokenPrices(input="0.15", output="0.6"))
    assert Decimal(told) * 10**8 == 15 * tokens_in + 60 * tokens_out
    assert "E" not in told


def test_of_several_answers_only_usable_ones_are_ranked() -> None:
    row = {"answers": ["Yes.", "", "I cannot assist.", "No"]}
    ends = {"finishes": ["stop", "empty", "refusal", "length"]}
    assert usable_answers(row | ends) == ["Yes.", "No"]
    # People's, and those of a data set that was made elsewhere, need not say how they ended.
    assert usable_answers(row) == ["Yes.", "I cannot assist.", "No"]
    assert usable_answers({"answer": "Yes."}) == []
