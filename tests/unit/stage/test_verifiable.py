"""Checks that a program makes of answers: each by example, and what holds for all of them."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from palimpsest.api.checks import CHECKS, Check
from palimpsest_stage.alignment.verifiable import keeps
from pydantic import ValidationError

EXAMPLES = Path(__file__).parents[3] / "examples" / "kinds"
WORDS = st.lists(st.text("abcdefgh", min_size=1, max_size=6), min_size=1, max_size=40)
EXACT: list[tuple[dict[str, Any], list[str], list[str]]] = [
    # (check, answers that keep it, answers that do not)
    ({"kind": "Words", "atLeast": 2, "atMost": 3}, ["a b", "well-known don't"], ["a", "a b c d"]),
    ({"kind": "Words", "around": 20}, ["w " * 18, "w " * 22], ["w " * 17, "w " * 23]),
    ({"kind": "Words", "around": 2}, ["a", "a b c"], ["a b c d"]),
    (
        {"kind": "Sentences", "atLeast": 2, "atMost": 2},
        ["One. Two!", 'He said "no." Then he left', "Pi is 3.14 or so. Yes?", "1. Salt\n\n2. Sea"],
        ["One", "One. Two. Three."],
    ),
    ({"kind": "Sentences", "atLeast": 2}, ["\u4f60\u597d\u3002\u518d\u89c1\u3002"], ["Wait ..."]),
    ({"kind": "Paragraphs", "atLeast": 2, "atMost": 2}, ["a\n\nb", "a\n \n\nb\nc"], ["a\nb"]),
    (
        {"kind": "FirstWord", "paragraph": 2, "word": "However"},
        ["a\n\nhowever, b"],
        ["however", "a\n\nb however", "a\nhowever"],
    ),
    (
        {"kind": "Keywords", "include": ["sea salt", "Tide"]},
        ["The tide leaves Sea\nsalt."],
        ["sea salt", "seasalt tide", "sea salt, tides"],
    ),
    ({"kind": "Forbidden", "words": ["magic"]}, ["magical"], ["a Magic trick"]),
    (
        {"kind": "Frequency", "word": "soil", "atLeast": 2, "atMost": 2},
        ["Soil on soil."],
        ["soil", "soil soil soil", "soils soil"],
    ),
    ({"kind": "Letters", "letter": "z", "atMost": 1}, ["Zoo", "none"], ["zZ"]),
    ({"kind": "Lowercase"}, ["it is, 5 times"], ["It is", "5"]),
    ({"kind": "Uppercase"}, ["WET FLOOR!"], ["Wet FLOOR", "5"]),
    ({"kind": "CapitalWords", "atLeast": 1, "atMost": 1}, ["I say STOP"], ["I say", "A NO GO"]),
    ({"kind": "NoCommas"}, ["one; two"], ["one, two"]),
    ({"kind": "StartsWith", "text": "A lighthouse"}, [" a Lighthouse warns"], ["The lighthouse"]),
    ({"kind": "EndsWith", "text": "your patience."}, ["for Your patience. \n"], ["your patience"]),
    (
        {"kind": "JSON"},
        ['["Oslo"]', '{"a": 1}', '```json\n{"a": 1}\n```', "```\n[]\n```"],
        ["Oslo", "5", '{"a": NaN}', 'Here: {"a": 1}', "```json\n{", "[" * 50_000],
    ),
    (
        {"kind": "Bullets", "atLeast": 2, "atMost": 2},
        ["Uses:\n- a\n - b", "* a\n* b", "\u2022 a\n+ b"],
        ["- a", "- a\n- b\n- c", "-a\n-b", "a - b - c", "- \n- b"],
    ),
    (
        {"kind": "Highlights", "atLeast": 2, "atMost": 2},
        ["*water* and **bread**"],
        ["*water*", "2 * 3 * 4", "***", "*a* *b* *c*"],
    ),
    ({"kind": "Placeholders", "atLeast": 2}, ["On [date] at [a place]"], ["[date]", "[] [ ]"]),
    (
        {"kind": "Sections", "marker": "Step", "atLeast": 2, "atMost": 2},
        ["Step 1\nOff.\n**Step 2**: On."],
        ["Step 1", "A step 1\nStep 2", "Steps 1\nStep 2"],
    ),
    ({"kind": "Quoted"}, ['"So it is."', "\u201cso\u201d"], ['"', '"so" he said', "so"]),
    ({"kind": "Title"}, ["<<On salt>>\nSalt"], ["<On salt>", "<<>>", "<< >>"]),
    ({"kind": "Postscript"}, ["Bye\n p.s. Keys"], ["Bye P.S. Keys", "P.P.S. x"]),
    ({"kind": "Postscript", "marker": "P.P.S."}, ["P.P.S. x"], ["P.S. x"]),
    (
        {"kind": "OneOf", "options": ["yes", "It depends."]},
        ["Yes.", '"it depends"', " yes \n"],
        ["yes, it is", "no"],
    ),
    (
        {"kind": "TwoAnswers"},
        ["Ash\n******\nFog"],
        ["Ash", "a******a", "a******b******c", "a*****b"],
    ),
]


def check(**told: Any) -> Check:
    (one,) = CHECKS.validate_python([told])
    return one


@pytest.mark.parametrize(
    ("told", "answer", "kept"),
    [
        (told, answer, kept)
        for told, yes, no in EXACT
        for answers, kept in ((yes, True), (no, False))
        for answer in answers
    ],
    ids=lambda given: given["kind"] if isinstance(given, dict) else None,
)
def test_an_answer_keeps_a_check_or_not(told: dict[str, Any], answer: str, kept: bool) -> None:
    assert keeps(check(**told), answer) is kept


def every_check() -> list[Check]:
    return CHECKS.validate_python([told for told, _, _ in EXACT][:16]) + CHECKS.validate_python(
        [told for told, _, _ in EXACT][16:]
    )


def test_every_kind_has_examples() -> None:
    kinds = set(CHECKS.json_schema()["items"]["discriminator"]["mapping"])
    assert {told["kind"] for told, _, _ in EXACT} == kinds


@given(st.sampled_from(every_check()), st.sampled_from(["", " ", "\n\t"]))
def test_an_empty_answer_keeps_nothing(one: Check, blank: str) -> None:
    assert not keeps(one, blank)


@given(st.sampled_from(every_check()), st.text(max_size=200), st.sampled_from(["", "\n", "  "]))
def test_any_text_is_judged_and_space_around_it_counts_for_nothing(
    one: Check, answer: str, around: str
) -> None:
    assert keeps(one, answer) == keeps(one, f"{around}{answer}{around}")


@given(WORDS)
def test_words_are_counted_one_by_one(words: list[str]) -> None:
    text, count = " ".join(words), len(words)
    assert keeps(check(kind="Words", atLeast=count, atMost=count), text)
    assert not keeps(check(kind="Words", atLeast=count + 1), text)
    assert not keeps(check(kind="Words", atMost=count - 1), text)
    sentences = ". ".join(words)
    assert keeps(check(kind="Sentences", atLeast=count, atMost=count), sentences)
    paragraphs = "\n\n".join(words)
    assert keeps(check(kind="Paragraphs", atLeast=count, atMost=count), paragraphs)
    bullets = "\n".join(f"- {word}" for word in words)
    assert keeps(check(kind="Bullets", atLeast=count, atMost=count), bullets)


@given(WORDS, st.text("abcdefgh", min_size=1, max_size=3))
def test_a_word_is_there_or_it_is_not(words: list[str], word: str) -> None:
    text = " ".join(words)
    there = words.count(word)
    assert keeps(check(kind="Keywords", include=[word.upper()]), text) == bool(there)
    assert keeps(check(kind="Forbidden", words=[word]), text) == (not there)
    assert keeps(check(kind="Frequency", word=word, atLeast=there, atMost=there), text)


@given(st.dictionaries(st.text(), st.integers() | st.text(), max_size=5))
def test_what_is_json_is_taken_for_it(value: dict[str, Any]) -> None:
    assert keeps(check(kind="JSON"), json.dumps(value))
    assert not keeps(check(kind="JSON"), f"{json.dumps(value)} so")


@pytest.mark.parametrize(
    "unit",
    [
        "[",
        "[a",
        "<<",
        "<<a",
        "*",
        "* ",
        "*a ",
        "\n",
        "\n ",
        ".)",
        "```\n",
        "- ",
        '"',
        "a-",
        "Step ",
    ],
)
def test_no_answer_takes_long(unit: str) -> None:
    """A pattern that tries again at every letter would take minutes."""
    before = time.process_time()
    for one in every_check():
        keeps(one, unit * (40_000 // len(unit)) + "x")
    assert time.process_time() - before < 10


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"kind": "Rhymes"}, "'Words', 'Sentences'"),
        ({"atLeast": 3}, "Unable to extract tag using discriminator 'kind'"),
        ({"kind": "Words"}, "give atLeast, atMost or both, or around alone"),
        ({"kind": "Words", "atLeast": 3, "around": 3}, "or around alone"),
        ({"kind": "Words", "atLeast": 3, "atMost": 2}, "atLeast is above atMost"),
        ({"kind": "Words", "atLeast": -1}, "greater than or equal to 0"),
        ({"kind": "Words", "atLeast": 1, "words": 3}, "Extra inputs are not permitted"),
        ({"kind": "Keywords", "include": []}, "at least 1 item"),
        ({"kind": "Keywords", "include": [" "]}, "should match pattern"),
        ({"kind": "OneOf", "options": ["x"] * 17}, "at most 16 items"),
        ({"kind": "StartsWith", "text": "x" * 257}, "at most 256 characters"),
    ],
)
def test_a_check_that_is_none_is_refused(told: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        check(**told)


def test_a_prompt_has_a_bounded_number_of_checks() -> None:
    with pytest.raises(ValidationError, match="at most 16 items"):
        CHECKS.validate_python([{"kind": "NoCommas"}] * 17)


def test_the_example_s_prompts_are_those_that_its_manifest_names() -> None:
    data = (EXAMPLES / "alignment-checks.jsonl").read_bytes()
    manifest = yaml.safe_load((EXAMPLES / "alignment-checks.yaml").read_text())
    asked = manifest["spec"]["evaluation"]
    assert asked["digest"] == "sha256:" + hashlib.sha256(data).hexdigest()
    rows = [json.loads(line) for line in data.splitlines()]
    assert len(rows) == asked["count"]
    assert all(CHECKS.validate_python(row["checks"]) for row in rows)
    assert len({row["instruction"] for row in rows}) == len(rows)
