"""Benchmarks of a DP-SGD step: SmolLM2-135M, LoRA of rank 4 on every linear layer.

`python -m bench.training SIDE` makes two steps and prints the process's peak memory in bytes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from palimpsest_stage.text import Layout
from processes import memory
from torch import Tensor

from bench.harness import Benchmark, Measure, Pair
from bench.private_sets import PRIVATE, PrivateSet
from bench.rates import rate, smollm2

EXAMPLES, TOKENS, RANK = 32, 24, 4
# The quickstart's batch and rows a pass; what opacus' memory manager would take at once.
TEXTS, LONGEST, ROWS, PHYSICAL = 256, 64, 32, 64
BOOLQ, CHITCHAT = PRIVATE

Step = Callable[[], object]


def _model(precision: str = "bfloat16") -> Any:
    from palimpsest_stage.models import suit_length  # noqa: PLC0415 - 4 s

    model, tokenizer = smollm2(precision)
    suit_length(model, TOKENS)
    return model, tokenizer


def peft_adapted(model: Any, rank: int) -> Any:
    """The model with PEFT's LoRA on every linear layer."""
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415

    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    return get_peft_model(model, config)


def _tokens() -> Tensor:
    return torch.randint(10, 40_000, (EXAMPLES, TOKENS), generator=torch.Generator().manual_seed(5))


def _real(data: PrivateSet) -> tuple[Layout, list[list[int]]]:
    """Real texts as they are trained on: after a prompt, of their own lengths."""
    from palimpsest_stage.text import encode, layout  # noqa: PLC0415

    _, held_out = data.texts()
    tokenizer = _model()[1]
    shape = layout(tokenizer, data.prompt, LONGEST)
    return shape, [encode(tokenizer, shape, text) for text in held_out[:TEXTS]]


def private_step(
    given: tuple[Layout, list[list[int]]] | None = None, micro_batch: int = EXAMPLES
) -> Step:
    """Sampling aside, the training stage's step on `given`: passes, clipping, noise."""
    from palimpsest.api.generator import Lora  # noqa: PLC0415
    from palimpsest_stage.dp.noise import SecureGenerator  # noqa: PLC0415
    from palimpsest_stage.dp.sgd import clipped_sum, noisy_mean  # noqa: PLC0415
    from palimpsest_stage.gradients import micro_batches, per_example_gradients  # noqa: PLC0415
    from palimpsest_stage.lora import Adapters  # noqa: PLC0415

    model, _ = _model()
    adapters = Adapters(model, Lora(rank=RANK))
    shape, examples = given or (
        Layout((1,), "", 2, TOKENS),
        [row[1:].tolist() for row in _tokens()],
    )
    generator = SecureGenerator()

    def step() -> Tensor:
        total = torch.zeros(adapters.size, dtype=torch.float64)
        for batch in micro_batches(examples, shape, micro_batch):
            total += clipped_sum(per_example_gradients(model, adapters, batch), 1.0)
        normals = generator.normals(adapters.size)
        return noisy_mean(total, normals, 1.0, 1.0, len(examples))

    return step


def plain_step() -> Step:
    """PEFT's gradient of the same, without privacy."""
    model, tokens = peft_adapted(_model()[0], RANK), _tokens()

    def step() -> None:
        model.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()

    return step


def opacus_step(shape: Layout, rows: list[list[int]]) -> Step:
    """On PEFT's model, float32, batches padded to the longest."""
    batches = [
        _padded(shape, rows[first : first + PHYSICAL]) for first in range(0, len(rows), PHYSICAL)
    ]
    return opacus_gradients(peft_adapted(_model("float32")[0], RANK), batches, len(rows))


def opacus_gradients(
    adapted: Any, batches: Sequence[tuple[Tensor, Tensor, Tensor]], examples: int
) -> Step:
    """opacus' hooks and optimizer as its tutorials have them; batches of tokens, mask, targets."""
    from opacus import GradSampleModule  # noqa: PLC0415
    from opacus.optimizers import DPOptimizer  # noqa: PLC0415

    # Its hooks look away in evaluation mode; this model has no dropout.
    model = GradSampleModule(adapted).train()
    optimizer = DPOptimizer(
        torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        expected_batch_size=examples,
    )

    def step() -> None:
        for number, (tokens, mask, targets) in enumerate(batches, 1):
            optimizer.zero_grad()
            logits = model(input_ids=tokens, attention_mask=mask).logits[:, :-1]
            losses = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), targets.flatten(), reduction="none"
            ).view_as(targets)
            torch.autograd.backward((losses.sum(1) / (targets != -100).sum(1)).mean())
            optimizer.signal_skip_step(do_skip=number < len(batches))
            optimizer.step()

    return step


def _padded(shape: Layout, rows: list[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, mask and targets (rows, length), as long as the longest."""
    longest, start = max(map(len, rows)), list(shape.start)
    pads = [longest - len(row) for row in rows]
    tokens = torch.tensor(
        [[*start, *row, *[shape.end] * pad] for row, pad in zip(rows, pads, strict=True)]
    )
    mask = torch.tensor([[1] * (len(start) + longest - pad) + [0] * pad for pad in pads])
    targets = tokens.masked_fill(mask == 0, -100)[:, 1:]
    targets[:, : len(start) - 1] = -100
    return tokens, mask, targets


def _against_plain(_: ExitStack) -> Pair:
    return Pair(rate(EXAMPLES, private_step()), rate(EXAMPLES, plain_step()))


def _against_opacus(name: str, data: PrivateSet) -> Benchmark:
    def prepare(_: ExitStack) -> Pair:
        given = _real(data)
        return Pair(rate(TEXTS, private_step(given, ROWS)), rate(TEXTS, opacus_step(*given)))

    return Benchmark(
        name,
        "examples/s",
        "higher",
        f"DP-SGD step as above on {TEXTS} texts of {data.name} after a prompt, in length buckets, "
        f"{ROWS} rows a pass",
        "opacus' GradSampleModule and DPOptimizer on PEFT's model, float32, the same texts in "
        f"physical batches of {PHYSICAL} padded to the longest",
        2.5,
        prepare,
    )


SIDES: dict[str, Callable[[], Step]] = {"private": private_step, "plain": plain_step}


def _peak(side: str) -> Measure:
    def megabytes() -> float:
        command = [sys.executable, "-m", "bench.training", side]
        return int(subprocess.run(command, check=True, capture_output=True).stdout) / 1e6

    return megabytes


BENCHMARKS = (
    Benchmark(
        "dp-step",
        "examples/s",
        "higher",
        f"DP-SGD step, LoRA rank {RANK} on every linear layer, {EXAMPLES} x {TOKENS} tokens, "
        "SmolLM2-135M, bfloat16",
        "PEFT's LoRA gradient without privacy, the same",
        0.87,
        _against_plain,
    ),
    _against_opacus("dp-step-opacus", BOOLQ),
    _against_opacus("dp-step-opacus-chat", CHITCHAT),
    Benchmark(
        "dp-memory",
        "MB",
        "lower",
        "peak memory of a process that makes dp-step's steps",
        "of one that makes its baseline's",
        0.83,
        lambda _: Pair(_peak("private"), _peak("plain")),
    ),
)

if __name__ == "__main__":
    work = SIDES[sys.argv[1]]()
    work()
    work()
    print(memory(os.getpid(), "VmHWM"))
