"""Sequences beyond a model's positions: each stage names the field that asks for them."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from cluster.fixtures import ObjectStore
from palimpsest.api.task import AnnotateParameters, Input, Task
from palimpsest_stage.errors import ModelUnsuitable
from palimpsest_stage.runtime import Context
from unit.stage.aligned import (
    ROWS,
    TEMPLATE,
    alignment,
    dpo,
    learning,
    rlhf,
    sft,
)
from unit.stage.ground import Ground

# The tiny model has 256.
BEYOND = 257
# Tokens of the longest instruction in the template: a byte each, and the ends.
LONGEST = max(len(row["instruction"]) for row in ROWS) + len("u:") + 1 + len("a:")


@pytest.fixture
def ground(object_store: ObjectStore, tmp_path: Path) -> Ground:
    return Ground.on(object_store, tmp_path, tmp_path.name.replace("_", "-"), 100)


def annotating(ground: Ground, folder: Path) -> Task:
    asked = {"system_prompt": "", "chat_template": TEMPLATE, "batch_size": 4}
    inputs: dict[str, Input] = {
        "model": ground.push_model(folder, "s3://models/tiny/"),
        "selected": ground.push_rows("selected.jsonl", ROWS),
    }
    parameters = AnnotateParameters.model_validate(asked | {"max_new_tokens": BEYOND - LONGEST})
    return ground.task(parameters, inputs, "outputs")


def rewarding(ground: Ground, folder: Path) -> Task:
    pairs = [{"instruction": "a", "chosen": "yes", "rejected": "no"}]
    return learning(ground, folder, pairs, max_length=BEYOND)


def aligning(parameters: Any) -> Callable[[Ground, Path], Task]:
    choices = [row | {"answers": ["yes it is so", "is more"]} for row in ROWS]
    return lambda ground, folder: alignment(ground, folder, parameters, choices)


@pytest.mark.parametrize(
    ("stage", "field", "make"),
    [
        ("annotate", "annotation.maxNewTokens", annotating),
        ("sft", "sft.maxLength", aligning(sft(max_length=BEYOND))),
        ("dpo", "dpo.maxLength", aligning(dpo(max_length=BEYOND))),
        ("reward", "reward.trained.maxLength", rewarding),
        ("rlhf", "rlhf.maxNewTokens", aligning(rlhf(max_new_tokens=BEYOND - LONGEST, steps=1))),
    ],
    ids=lambda given: given if isinstance(given, str) and "." not in given else "",
)
def test_one_token_more_than_there_are_positions_is_refused(
    ground: Ground,
    model_folder: Path,
    stage: str,
    field: str,
    make: Callable[[Ground, Path], Task],
) -> None:
    # Not above: TRL takes 11 s, and annotate goes without.
    run = import_module(f"palimpsest_stage.{stage}").run
    task = make(ground, model_folder)
    said = rf"{field}: sequences of {BEYOND} tokens are longer than the 256 positions"
    with pytest.raises(ModelUnsuitable, match=said):
        run(Context(task, ground.environment(task)), {})
