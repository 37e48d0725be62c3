"""Public prompts that the model answers before and after."""

import json
from typing import Any

from palimpsest.api.task import FileInput

from palimpsest_stage.annotate import answer
from palimpsest_stage.errors import InputMismatch
from palimpsest_stage.runtime import Context

ANSWER_TOKENS = 48
ANSWER_BATCH = 16


def read_prompts(context: Context, count: int) -> list[str]:
    """The first `count` public prompts. Raises InputMismatch."""
    if "evaluation" not in context.task.inputs:
        return []
    context.input("evaluation", FileInput)
    try:
        with context.file("evaluation").open(encoding="utf-8") as file:
            prompts = [str(json.loads(line)["instruction"]) for line in file if line.strip()]
    except (ValueError, KeyError, TypeError) as error:
        raise InputMismatch("evaluation: JSONL with a field `instruction` is needed") from error
    return prompts[:count]


def answers(model: Any, tokenizer: Any, prompts: list[str]) -> list[str]:
    """The model's greedy answers."""
    if not prompts:
        return []
    return answer(model, tokenizer, prompts, "", ANSWER_TOKENS, ANSWER_BATCH, _quiet)


def _quiet(_done: int, _total: int, _unit: str) -> None:
    """The stage's progress counts training steps only."""
