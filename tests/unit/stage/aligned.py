"""Alignments of the tiny model, as the stage program runs them."""

import json
from pathlib import Path
from typing import Any

from palimpsest.api.task import (
    DpoParameters,
    FileInput,
    Input,
    RewardModelParameters,
    RewardParameters,
    RlhfParameters,
    SftParameters,
    Task,
    sha256_digest,
)
from unit.stage.ground import Ground

TEMPLATE = (
    "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}"
)
ROWS = [
    {"id": str(n), "instruction": f"is {n} more than {n - 1}", "answer": "yes" * (1 + n % 5)}
    for n in range(64)
]


# Of some steps, quick, with a checkpoint at every third.
COMMON: dict[str, Any] = {
    "batch_size": 4,
    "learning_rate": "0.01",
    "lora_rank": 4,
    "merge": True,
    "checkpoint_interval": 3,
    "chat_template": TEMPLATE,
    "guarantee": "(3, 1e-5)-DP",
}
INFORMATIVE = RewardParameters(built_in="Informative")


def public_file(ground: Ground, rows: list[dict[str, Any]]) -> FileInput:
    """Rows as a public file of the tenant."""
    data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    uri = f"s3://outputs/{ground.folder.name}/public.jsonl"
    ground.store("root").put(uri, data)
    return FileInput(store="outputs", uri=uri, digest=sha256_digest(data))


def sft(**given: Any) -> SftParameters:
    """Supervised fine-tuning."""
    return SftParameters(**COMMON | {"epochs": 2, "max_length": 48, "packing": False} | given)


def dpo(**given: Any) -> DpoParameters:
    """Preference optimisation by a built-in reward."""
    own = {"epochs": 2, "max_length": 64, "beta": "0.1", "reward": INFORMATIVE}
    return DpoParameters(**COMMON | own | given)


def reward_model(**given: Any) -> RewardModelParameters:
    """A reward model of the tiny model."""
    own = {name: COMMON[name] for name in ("batch_size", "lora_rank", "checkpoint_interval")}
    own |= {"epochs": 2, "max_length": 64, "held_out_share": "0.25", "learning_rate": "0.005"}
    return RewardModelParameters(**own | {"chat_template": TEMPLATE} | given)


def rlhf(**given: Any) -> RlhfParameters:
    """Reinforcement learning by a built-in reward."""
    own: dict[str, Any] = {
        "algorithm": "GRPO",
        "steps": 40,
        "batch_size": 2,
        "completions": 16,
        "learning_rate": "0.03",
        "max_new_tokens": 24,
        "kl_coefficient": "0.001",
        "max_kl": "100",
        "reward": INFORMATIVE,
    }
    return RlhfParameters(**COMMON | own | given)


def alignment(
    ground: Ground,
    model_folder: Path,
    parameters: Any,
    rows: list[dict[str, Any]] | None = None,
    **more: Input,
) -> Task:
    """A task that aligns the tiny model on rows."""
    inputs: dict[str, Input] = {
        "base": ground.push_model(model_folder, "s3://models/tiny/"),
        "dataset": ground.push_rows("data.jsonl", ROWS if rows is None else rows),
    }
    return ground.task(parameters, inputs | more, "outputs")


def learning(ground: Ground, folder: Path, pairs: list[dict[str, Any]], **parameters: Any) -> Task:
    """A task that learns from pairs."""
    inputs: dict[str, Input] = {
        "base": ground.push_model(folder, f"s3://models/{folder.name}/"),
        "preferences": public_file(ground, pairs),
    }
    return ground.task(reward_model(**parameters), inputs, "outputs")


def fetched(ground: Ground, task: Task, folder: Path) -> Path:
    """The published files, where libraries can load them."""
    folder.mkdir(parents=True)
    for file in ground.manifest(task.output).files:
        name = file.path.rsplit("/", 1)[-1]
        (folder / name).write_bytes(ground.read(task.output, name))
    return folder
