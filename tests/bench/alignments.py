"""Alignment by the stage program, from its start to the published model, against a plain script."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from cluster import parts
from palimpsest.api.task import (
    DpoParameters,
    Input,
    ModelInput,
    RewardParameters,
    RlhfParameters,
    SftParameters,
    Task,
)
from palimpsest_stage.alignment.tuning import seed_of
from palimpsest_stage.runtime import Context
from unit.stage.aligned import public_file
from unit.stage.ground import Ground

from bench import standing
from bench.harness import Benchmark, Pair, Reading
from bench.private_sets import PUBLIC
from bench.statistics import estimate

PAIRS = 96
# Of the whole time, start and publication included; and of the training's.
WHOLE, TRAINING, AT_MOST = 1.2, 1.05, 1.1

COMMON: dict[str, Any] = {
    "batch_size": 16,
    "learning_rate": "0.0005",
    "lora_rank": 8,
    "merge": True,
    "checkpoint_interval": 500,
    "guarantee": "none: a benchmark",
}
METHODS: dict[str, Any] = {
    "sft": SftParameters(**COMMON, epochs=1, max_length=96, packing=False),
    "dpo": DpoParameters(**COMMON, epochs=1, max_length=96, beta="0.1", reward=None),
    "rlhf": RlhfParameters(
        **COMMON | {"batch_size": 4},
        algorithm="GRPO",
        steps=2,
        completions=4,
        max_new_tokens=24,
        kl_coefficient="0.05",
        max_kl="100",
        reward=RewardParameters(built_in="Informative"),
    ),
}
WHAT = {
    "sft": f"{PAIRS} pairs of at most 96 tokens in batches of 16",
    "dpo": f"{PAIRS // 3} pairs of answers of at most 96 tokens in batches of 16",
    "rlhf": "2 steps of GRPO, 16 completions of at most 24 tokens in each",
}


def rows(method: str) -> list[dict[str, str]]:
    """Public questions, and others in the place of answers."""
    texts = PUBLIC.texts()[0]
    count = PAIRS // 3 if method == "dpo" else PAIRS
    return [
        {
            "id": str(number),
            "instruction": texts[number],
            "answer": f"{texts[-number - 1]}. {texts[-number - 2]}",
            "chosen": f"{texts[-number - 1]}. {texts[-number - 2]}",
            "rejected": texts[-number - 3],
        }
        for number in range(count)
    ]


@dataclass
class _Runs:
    """Whole seconds, and those of the training by side."""

    ours: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)

    def timed(self, side: list[float], run: Callable[[], str]) -> float:
        """The seconds that `run` took; what it said of its training is kept."""
        began = time.perf_counter()
        said = run()
        seconds = time.perf_counter() - began
        (training,) = re.findall(r"trained in ([0-9.]+) s", said)
        side.append(float(training))
        return seconds

    def readings(self, name: str) -> list[Reading]:
        """How much longer training takes, and its interval's upper end.

        The first of both sides was for warming up.
        """
        ratios = [a / b for a, b in zip(self.ours[1:], self.plain[1:], strict=True)]
        found = estimate(ratios)
        unit = "of plain TRL's time"
        spread = f"{found.low:.2f} to {found.high:.2f}"
        what = f"of {name}, the training alone"
        return [
            Reading(f"{name}-training", found.median, unit, TRAINING, f"{what}: {spread}"),
            Reading(f"{name}-training-most", found.high, unit, AT_MOST, f"{what}: the upper end"),
        ]


def _pushed(ground: Ground) -> ModelInput:
    """The base model, listed already."""
    model = parts.smollm2()
    for path in model.folder.iterdir():
        ground.store("root").put(f"{model.uri}{path.name}", path.read_bytes())
    return ModelInput(store="models", uri=model.uri, digest=model.digest)


def _prepare(method: str, held: ExitStack) -> Pair:
    ground = standing.for_stages(held, method)
    examples = rows(method)
    work = ground.folder
    plain = work / "data.jsonl"
    plain.write_text("".join(json.dumps(row) + "\n" for row in examples))
    inputs: dict[str, Input] = {
        "base": _pushed(ground),
        "dataset": ground.push_rows("data.jsonl", examples),
    }
    if method == "dpo":
        inputs["preferences"] = public_file(ground, examples)
    runs = _Runs()

    def asked(number: int) -> Task:
        # A place of its own each time: what is published is not made again.
        parameters = METHODS[method].model_copy(update={"guarantee": f"run {number}"})
        return ground.task(parameters, inputs, "outputs")

    def stage() -> str:
        ended = ground.run(asked(len(runs.ours)))
        assert ended.outcome == "Completed", ended.said
        return ended.said

    def script() -> str:
        command = [sys.executable, "-m", "bench.plain_trl", method]
        number = len(runs.plain)
        task = asked(number)
        # The prompts that a step takes, and how long answers are, follow from it.
        seed = seed_of(Context(task, ground.environment(task)))
        given = [str(parts.smollm2().folder), str(plain), str(work / f"plain-{number}"), str(seed)]
        return subprocess.run(command + given, check=True, capture_output=True, text=True).stdout

    def readings() -> Sequence[Reading]:
        return runs.readings(method)

    return Pair(
        lambda: runs.timed(runs.ours, stage),
        lambda: runs.timed(runs.plain, script),
        readings,
    )


def _benchmark(method: str) -> Benchmark:
    def prepare(held: ExitStack) -> Pair:
        return _prepare(method, held)

    return Benchmark(
        method,
        "s",
        "lower",
        f"stage {method}, from its start to the published model: {WHAT[method]}, SmolLM2-135M, "
        "LoRA rank 8, bfloat16",
        "a plain TRL script with the same settings and seed, the model on its disk (goal: at most "
        "1.2 times as long)",
        1 / WHOLE,
        prepare,
    )


BENCHMARKS = tuple(_benchmark(method) for method in METHODS)
