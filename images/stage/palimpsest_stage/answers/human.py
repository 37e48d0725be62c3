"""People's answers, joined to the instructions by id. Pure."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from palimpsest_stage.answers.finish import Finish
from palimpsest_stage.answers.kept import told
from palimpsest_stage.errors import InputMismatch

Answers = list[str]


def parse(lines: Iterable[bytes]) -> dict[str, Answers]:
    """Each id's answers. Raises InputMismatch where a line is no answer or an id comes twice."""
    found: dict[str, Answers] = {}
    wrong, again = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        identity, answers = _row(line)
        if identity is None or answers is None:
            wrong.append(number)
        elif identity in found:
            again.append(identity)
        else:
            found[identity] = answers
    if wrong:
        raise InputMismatch(
            f'answers: {len(wrong)} lines are not {{"id", "answer"}} or {{"id", "answers": '
            f"[...]}}, the first is line {wrong[0]}"
        )
    if again:
        raise InputMismatch(f"answers: {len(again)} ids come again, the first is {again[0][:99]!r}")
    return found


def joined(
    rows: Sequence[dict[str, Any]], answers: dict[str, Answers]
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The instructions with their answers, and how many answers there are by how they ended.

    Raises InputMismatch where an answer is to no instruction.
    """
    known = {row["id"] for row in rows}
    unknown = [identity for identity in answers if identity not in known]
    if unknown:
        raise InputMismatch(
            f"answers: {len(unknown)} ids are of no instruction, the first is {unknown[0][:99]!r}"
        )
    several = any(len(given) > 1 for given in answers.values())
    ends = Counter[str]()
    made = []
    for row in rows:
        texts = [(text.strip(), _finish(text)) for text in answers.get(row["id"], [])]
        texts = texts or [("", Finish.MISSING)]
        ends.update(finish.value for _, finish in texts)
        made.append(row | told(texts, several))
    return made, dict(sorted(ends.items()))


def _finish(text: str) -> Finish:
    return Finish.STOP if text.strip() else Finish.EMPTY


def _row(line: bytes) -> tuple[str | None, Answers | None]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(row, dict) or not isinstance(row.get("id"), str):
        return None, None
    if ("answer" in row) == ("answers" in row):
        return row["id"], None
    given = row["answers"] if "answers" in row else [row["answer"]]
    sound = isinstance(given, list) and given and all(_is_text(each) for each in given)
    return row["id"], given if sound else None


def _is_text(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
