"""Figures of questions as plain text."""

from __future__ import annotations

import re
from collections.abc import Sequence

_POSITIVE = (
    r"is|are|was|were|am|do|does|did|can|could|will|would|shall|should|may|might|must|has|have|had"
)
_NEGATIVE = r"(?:is|are|was|were|do|does|did|could|would|should|has|have|had|ca|wo)n'?t"
_YES_NO = re.compile(rf"\W*(?:{_POSITIVE}|{_NEGATIVE})\b", re.IGNORECASE)


def yes_no_form(question: str) -> bool:
    """Whether a question has the form that yes or no answers: it begins with an auxiliary verb."""
    return _YES_NO.match(question.replace("\u2019", "'")) is not None


def share_yes_no(questions: Sequence[str]) -> float:
    """Part of the questions in yes/no form. Raises ValueError for none."""
    if not questions:
        raise ValueError("no questions")
    return sum(map(yes_no_form, questions)) / len(questions)


def total_variation(left: Sequence[float], right: Sequence[float]) -> float:
    """Half the L1 distance of two normalised histograms. Raises ValueError for an empty one."""
    total_left, total_right = sum(left), sum(right)
    if total_left <= 0 or total_right <= 0:
        raise ValueError("an empty histogram")
    pairs = zip(left, right, strict=True)
    return sum(abs(a / total_left - b / total_right) for a, b in pairs) / 2
