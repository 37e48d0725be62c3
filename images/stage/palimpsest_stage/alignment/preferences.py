"""Pairs of a better and a worse answer to the same instruction."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from typing import Any

from palimpsest_stage.alignment.rewards import TIE, Reward
from palimpsest_stage.alignment.rows import lines, text
from palimpsest_stage.answers.finish import Finish, usable_answers
from palimpsest_stage.errors import DatasetUnsuitable, InputMismatch
from palimpsest_stage.runtime import Context


@dataclass(frozen=True)
class Pair:
    """Two answers, and whether either was cut before its end."""

    instruction: str
    chosen: str
    rejected: str
    chosen_cut: bool = False
    rejected_cut: bool = False


@dataclass(frozen=True)
class Ranked:
    """What rows gave: pairs, and how many gave none for the one reason or the other.

    `unscored` answers got no number.
    """

    pairs: list[Pair]
    ties: int = 0
    without_choice: int = 0
    unscored: int = 0


def rank(rows: list[dict[str, Any]], reward: Reward) -> Ranked:
    """Of each row's usable answers the best against the worst; ties are dropped.

    Answers whose reward is no number are left aside.
    """
    choices = [
        (row["instruction"], list(dict.fromkeys(usable_answers(row))), _cut(row)) for row in rows
    ]
    some = [one for one in choices if len(one[1]) > 1]
    scores = iter(
        reward(
            [instruction for instruction, answers, _ in some for _ in answers],
            [answer for _, answers, _ in some for answer in answers],
        )
    )
    pairs, ties, unscored, without_choice = [], 0, 0, len(choices) - len(some)
    for instruction, answers, cut in some:
        all_scored = [(next(scores), answer) for answer in answers]
        scored = [one for one in all_scored if not math.isnan(one[0])]
        unscored += len(all_scored) - len(scored)
        if len(scored) < 2:
            without_choice += 1
            continue
        best, worst = max(scored), min(scored)
        chosen, rejected = best[1], worst[1]
        # Not below it, so that no number counts as none.
        if not best[0] - worst[0] > TIE:
            ties += 1
        else:
            pairs.append(Pair(instruction, chosen, rejected, chosen in cut, rejected in cut))
    return Ranked(pairs, ties, without_choice, unscored)


def _cut(row: dict[str, Any]) -> set[str]:
    """A row's answers that ended nowhere by themselves."""
    pairs = list(zip(row.get("answers") or (), row.get("finishes") or (), strict=False))
    ended = {answer for answer, finish in pairs if finish != Finish.LENGTH}
    return {answer for answer, _ in pairs} - ended


def split(pairs: Sequence[Pair], share: Decimal) -> tuple[list[Pair], list[Pair]]:
    """(to learn from, held out): of that share of the instructions, by the order of their SHA-256.

    Pairs of one instruction stay together. At least one instruction is on either side; of a single
    one nothing is held out.
    """
    order = sorted({pair.instruction for pair in pairs}, key=_place)
    count = min(max(1, round(share * len(order))), len(order) - 1)
    held = set(order[:count])
    return (
        [pair for pair in pairs if pair.instruction not in held],
        [pair for pair in pairs if pair.instruction in held],
    )


def _place(instruction: str) -> str:
    return sha256(instruction.encode()).hexdigest()


def read(context: Context, name: str, field: str) -> Ranked:
    """Pairs of the file input called so, of `field`. Raises InputMismatch, DatasetUnsuitable."""
    pairs, ties = [], 0
    for place, line in lines(context, name, field):
        pair = _pair(place, line)
        if pair.chosen == pair.rejected:
            ties += 1
        else:
            pairs.append(pair)
    if not pairs:
        raise DatasetUnsuitable(f"{field}: no pair of two different answers")
    return Ranked(pairs, ties)


def _pair(place: str, line: str) -> Pair:
    """A line of the file. Raises InputMismatch."""
    try:
        row = json.loads(line)
        return Pair(text(row["instruction"]), text(row["chosen"]), text(row["rejected"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InputMismatch(
            f"{place}: an object with the texts `instruction`, `chosen` and `rejected` is needed"
        ) from error
