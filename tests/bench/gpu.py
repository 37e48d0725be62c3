"""python -m bench.gpu: what a CUDA device does with a model of 1B parameters; docs/benchmarks.md.

The model has the shape of Llama 3.2 1B and random weights: none of these figures depends on them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import torch
from palimpsest.api.generator import Lora
from palimpsest.api.task import TrainParameters
from palimpsest_stage.dp.noise import SecureGenerator
from palimpsest_stage.lora import Adapters
from palimpsest_stage.models import suit_length
from palimpsest_stage.text import Layout
from palimpsest_stage.train import Trainer
from torch import Tensor

from bench import page, table
from bench.decoding import at_full_length
from bench.harness import Benchmark, Measure, Outcome, Pair, Reading, run
from bench.rates import rate
from bench.statistics import MIN_PAIRS
from bench.training import opacus_gradients, peft_adapted

CUDA = torch.device("cuda")
# Dense bfloat16 by Nvidia's datasheets of the H100 and the H200, SXM.
PEAK_FLOPS = {"NVIDIA H100 80GB HBM3": 989e12, "NVIDIA H200": 989e12}
SHAPE = {
    "vocab_size": 128_256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
EXAMPLES, TOKENS, MICRO_BATCH, RANK = 512, 64, 128, 8
# Float32 gradients of more rows at once do not fit beside opacus' activations.
PHYSICAL = 64
ROWS, PROMPT, NEW_TOKENS = 512, 16, 128


def _model(dtype: torch.dtype = torch.bfloat16) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415

    torch.manual_seed(0)
    with torch.device(CUDA):
        model = LlamaForCausalLM(LlamaConfig(**SHAPE)).to(dtype)
    return model.eval().requires_grad_(False)


def _rows() -> list[list[int]]:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(10, 100_000, (EXAMPLES, TOKENS - 1), generator=generator).tolist()


def _rate(amount: int, work: Callable[[], object]) -> Measure:
    return rate(amount, work, torch.cuda.synchronize)


def _settings() -> TrainParameters:
    """Every example is in, so that each step computes the same."""
    return TrainParameters(
        prompt="",
        lora=Lora(rank=RANK, alpha=2 * RANK),
        records=EXAMPLES,
        expected_batch_size=EXAMPLES,
        micro_batch_size=MICRO_BATCH,
        steps=1000,
        block_steps=10,
        restarts=0,
        learning_rate="0.001",
        clipping_norm="1",
        noise_multiplier="1",
        max_length=TOKENS,
        precision="bfloat16",
    )


def _private_step() -> Callable[[], object]:
    """The training stage's step, whole: passes, clipping, noise and optimizer."""
    settings, model = _settings(), _model()
    suit_length(model, TOKENS)
    shape = Layout((1,), "", 2, TOKENS)
    adapters = Adapters(model, settings.lora)
    trainer = Trainer(model, adapters, shape, settings, SecureGenerator())
    rows, states = _rows(), [trainer.initial()]

    def step() -> None:
        state, size = trainer.step(states.pop(), rows)
        assert size == EXAMPLES
        states.append(state)

    return step


def _tokens() -> Tensor:
    return torch.tensor([[1, *row] for row in _rows()], device=CUDA)


def _plain_step() -> Callable[[], object]:
    """PEFT's LoRA and torch's AdamW without privacy, the same passes."""
    model, batches = peft_adapted(_model(), RANK), torch.split(_tokens(), MICRO_BATCH)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        for tokens in batches:
            model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()

    return step


def _opacus_step() -> Callable[[], object]:
    tokens = _tokens()
    mask = torch.ones_like(tokens)
    batches = [
        (some, mask[: len(some)], some[:, 1:].contiguous())
        for some in torch.split(tokens, PHYSICAL)
    ]
    return opacus_gradients(peft_adapted(_model(torch.float32), RANK), batches, EXAMPLES)


def _share(tokens_a_second: float) -> Reading:
    """Two products of every weight a token forward, two backward: frozen weights have no gradient.

    Embeddings, tied here, count once: as the head.
    """
    weights = sum(p.numel() for p in _model().parameters())
    name = torch.cuda.get_device_name()
    share = tokens_a_second * 4 * weights / PEAK_FLOPS[name]
    return Reading(
        "gpu-dp-step-peak",
        100 * share,
        "% of peak",
        None,
        f"gpu-dp-step's record tokens times 4 operations for each of {weights / 1e9:.2f} billion "
        f"weights, of the {PEAK_FLOPS[name] / 1e12:.0f} TFLOP/s that the datasheet states",
    )


def _step_against(baseline: Callable[[], Callable[[], object]], share: bool) -> Any:
    def prepare(_: ExitStack) -> Pair:
        subject, seen = _rate(EXAMPLES * TOKENS, _private_step()), list[float]()

        def kept() -> float:
            seen.append(subject())
            return seen[-1]

        def readings() -> Sequence[Reading]:
            return [_share(sorted(seen)[len(seen) // 2])] if share else []

        return Pair(kept, _rate(EXAMPLES * TOKENS, baseline()), readings)

    return prepare


def _decoding(_: ExitStack) -> Pair:
    prompt = list(range(10, 10 + PROMPT))
    return at_full_length(_model(), prompt, ROWS, NEW_TOKENS, torch.cuda.synchronize)


_STEP = (
    f"the training stage's step, whole (passes, clipping, noise, AdamW), LoRA rank {RANK} on every "
    f"linear layer, {EXAMPLES} x {TOKENS} tokens, {MICRO_BATCH} rows a pass, a Llama of the shape "
    "of Llama 3.2 1B, bfloat16"
)
BENCHMARKS = (
    Benchmark(
        "gpu-dp-step",
        "tokens/s",
        "higher",
        _STEP,
        "PEFT's LoRA and torch's AdamW without privacy, the same passes",
        0.87,
        _step_against(_plain_step, share=True),
    ),
    Benchmark(
        "gpu-dp-step-opacus",
        "tokens/s",
        "higher",
        "gpu-dp-step's",
        "opacus' GradSampleModule and DPOptimizer on PEFT's model, float32, physical batches of "
        f"{PHYSICAL}",
        2.5,
        _step_against(_opacus_step, share=False),
    ),
    Benchmark(
        "gpu-decode",
        "tokens/s",
        "higher",
        f"decode loop, {ROWS} rows of {NEW_TOKENS} tokens, nucleus 0.95, the same model",
        "transformers.generate, the same",
        1.0,
        _decoding,
    ),
)


def main(arguments: list[str]) -> int:
    """Exit status 1 if a goal does not hold."""
    parser = argparse.ArgumentParser(prog="bench.gpu", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which (default: all)")
    parser.add_argument("--pairs", type=int, default=MIN_PAIRS, help="alternations, at least 7")
    given = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        parser.error("no CUDA device")
    outcomes: list[Outcome] = []
    for entry in BENCHMARKS:
        if given.names and entry.name not in given.names:
            continue
        outcomes.append(run(entry, given.pairs))
        torch.cuda.empty_cache()
        print(outcomes[-1], flush=True)
    device = f"one {torch.cuda.get_device_name()}, torch {torch.__version__}"
    day = datetime.now(UTC).date().isoformat()
    text = table.render(outcomes, "make gpu", device, day)
    print(text, flush=True)
    if not given.names:
        page.renew(page.BENCHMARKS, "gpu", f"## On a GPU\n\n{text}")
    return 0 if all(outcome.holds for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
