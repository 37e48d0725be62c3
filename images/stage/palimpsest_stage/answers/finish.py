"""How an answer ended, and whether a model may learn from it. Pure."""

import re
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from typing import Any


class Finish(StrEnum):
    """The ways in which an answer ends."""

    STOP = "stop"  # by itself
    LENGTH = "length"  # cut at maxNewTokens
    EMPTY = "empty"  # no text
    REFUSAL = "refusal"  # the model would not answer, see `refuses`; or its server's filter did
    REJECTED = "rejected"  # the endpoint would not take this one instruction
    FAILED = "failed"  # the endpoint failed at this one instruction alone, again and again
    MISSING = "missing"  # people gave none


USABLE = frozenset({Finish.STOP, Finish.LENGTH})
# By these an endpoint has not shown yet that it answers any instruction.
UNTAKEN = frozenset({Finish.REJECTED, Finish.FAILED})

# How English refusals begin. A rule that anyone can read and redo finds most, not all; an answer
# that goes on to help after such words is taken for one too.
REFUSALS = (
    "i'm sorry, but i can",
    "i'm sorry, i can",
    "i am sorry, but i can",
    "sorry, but i can",
    "sorry, i can't",
    "i cannot assist",
    "i cannot help with",
    "i cannot provide",
    "i can't assist",
    "i can't help with",
    "i can't provide",
    "i'm unable to",
    "i am unable to",
    "i'm not able to",
    "as an ai",
)


def refuses(text: str) -> bool:
    """Whether a text begins as refusals do: case, spaces and the kind of apostrophe aside."""
    plain = re.sub(r"\s+", " ", text.replace("\u2019", "'")).strip().lower()
    return plain.startswith(REFUSALS)


def finish_of(text: str, cut: bool, refused: bool = False) -> Finish:
    """How an answer ended: `cut` at the longest, `refused` by the word of who gave it."""
    if refused:
        return Finish.REFUSAL
    if not text.strip():
        return Finish.EMPTY
    if refuses(text):
        return Finish.REFUSAL
    return Finish.LENGTH if cut else Finish.STOP


def usable_answers(row: dict[str, Any]) -> list[str]:
    """Of a row's several answers those that a model may learn from."""
    answers = row.get("answers") or []
    finishes = row.get("finishes") or [Finish.STOP] * len(answers)
    pairs = zip(answers, finishes, strict=False)
    return [answer for answer, finish in pairs if answer and finish in USABLE]


def usable(rows: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The rows whose answer a model may learn from, and how many others there are by why.

    A cut answer counts: each of its tokens is one that the annotator chose.
    """
    kept, left = [], Counter[str]()
    for row in rows:
        finish = row.get("finish", Finish.STOP)
        if row.get("answer") and finish in USABLE:
            kept.append(row)
        else:
            left["unanswered" if finish in USABLE else str(finish)] += 1
    return kept, dict(sorted(left.items()))
