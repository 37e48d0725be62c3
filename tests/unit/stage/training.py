"""A small training, as a task whose worst case is reserved."""

from pathlib import Path
from typing import Any

from palimpsest.api.generator import Lora
from palimpsest.api.task import PrivateInput, Task, TrainParameters
from palimpsest_stage import train
from unit.stage.ground import Ground

RECORDS = 200


def parameters(**changes: Any) -> TrainParameters:
    values: dict[str, Any] = {
        "prompt": "Q:",
        "lora": Lora(rank=2, alpha=4),
        "records": RECORDS,
        "expected_batch_size": 64,
        "micro_batch_size": 8,
        "steps": 6,
        "block_steps": 2,
        "restarts": 1,
        "learning_rate": "0.01",
        "clipping_norm": "0.5",
        "noise_multiplier": "1.5",
        "max_length": 48,
        "precision": "float32",
    }
    return TrainParameters(**(values | changes))


def reserved(ground: Ground, folder: Path, private: PrivateInput, **changes: Any) -> Task:
    """A training task over `private`, its worst case reserved as the operator does."""
    asked = parameters(**changes)
    base = ground.push_model(folder, "s3://models/tiny/")
    task = ground.task(asked, {"base": base, "private": private}, "releases")
    ground.reserve(task, train.mechanism(asked), asked.restarts, asked.block_steps)
    return task
