"""Texts that stand for private ones in the table of utility, from Python packages."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from cluster.parts import package, shuffled, typed_questions

CHITCHAT = "chitchat-dataset==0.9.0"
HELD_OUT = 640


@dataclass(frozen=True)
class PrivateSet:
    """Distinct texts, shuffled: the first are held out, the next `records` private."""

    name: str
    what: str
    records: int
    read: Callable[[], list[str]]
    prompt: str

    def texts(self) -> tuple[list[str], list[str]]:
        """(private, held out)."""
        every = self.read()
        held_out, rest = every[:HELD_OUT], every[HELD_OUT:]
        assert len(rest) >= self.records
        return rest[: self.records], held_out


def _utterances() -> list[str]:
    (path,) = package(CHITCHAT).glob("**/chitchat_dataset/dataset.json")
    talks = json.loads(path.read_text()).values()
    turns = (turn for talk in talks for turn in talk["messages"])
    texts = {utterance["text"].strip() for turn in turns for utterance in turn}
    # Shorter ones are greetings and smileys.
    return shuffled({text for text in texts if len(text.split()) > 3})


# What settings may be chosen on: nobody's secrets.
PUBLIC = PrivateSet(
    "NQ-open",
    "questions typed into a search engine (CC BY-SA 3.0)",
    2_900,
    partial(typed_questions, "NQ-open"),
    "A question typed into a search engine:",
)
PRIVATE = (
    PrivateSet(
        "BoolQ",
        "yes/no questions typed into a search engine (CC BY-SA 3.0)",
        15_000,
        partial(typed_questions, "BoolQ"),
        "A question typed into a search engine:",
    ),
    PrivateSet(
        "chitchat",
        "utterances of strangers who chat, of four words or more (MIT)",
        100_000,
        _utterances,
        "A line of a chat between strangers:",
    ),
)
