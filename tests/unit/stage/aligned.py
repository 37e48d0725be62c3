"""Alignments of the tiny model, as the stage program runs them."""

from pathlib import Path
from typing import Any

from palimpsest.api.task import Input, SftParameters, Task
from unit.stage.ground import Ground

TEMPLATE = (
    "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}"
)
ROWS = [
    {"id": str(n), "instruction": f"is {n} more than {n - 1}", "answer": "yes" * (1 + n % 5)}
    for n in range(64)
]


def sft(**given: Any) -> SftParameters:
    """Of some steps, quick, with a checkpoint at every third."""
    standard: dict[str, Any] = {
        "epochs": 2,
        "batch_size": 4,
        "learning_rate": "0.01",
        "max_length": 48,
        "packing": False,
        "lora_rank": 4,
        "merge": True,
        "checkpoint_interval": 3,
        "evaluation_count": 0,
        "chat_template": TEMPLATE,
        "guarantee": "(3, 1e-5)-DP",
    }
    return SftParameters(**standard | given)


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


def fetched(ground: Ground, task: Task, folder: Path) -> Path:
    """The published files, where libraries can load them."""
    folder.mkdir(parents=True)
    for file in ground.manifest(task.output).files:
        name = file.path.rsplit("/", 1)[-1]
        (folder / name).write_bytes(ground.read(task.output, name))
    return folder
