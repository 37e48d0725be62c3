"""The benchmarks."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from bench.harness import Benchmark, Measure

ROWS, NEW_TOKENS = 64, 24
EXAMPLES, TOKENS = 32, 24


@cache
def _config() -> Any:
    from transformers import LlamaConfig  # noqa: PLC0415 - 4 s

    return LlamaConfig(
        vocab_size=49_152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
    )


def _model() -> Any:
    """SmolLM2-135M's shape with random weights, bfloat16.

    The embeddings are scaled so that a nucleus holds tens of tokens, as a trained model's does.
    """
    from transformers import LlamaForCausalLM  # noqa: PLC0415

    torch.manual_seed(1)
    model = LlamaForCausalLM(_config())
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(6.0)
    return model.to(torch.bfloat16).eval().requires_grad_(False)


def _rate(amount: int, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return amount / (time.perf_counter() - began)


def _decode() -> tuple[Measure, Measure]:
    from palimpsest_stage.decode import decode, nucleus  # noqa: PLC0415

    model = _model()
    prompt = list(range(10, 20))
    randomness = torch.Generator().manual_seed(3)
    choose = nucleus(1.0, 0.95, randomness)
    # No token ends a row: both sides make the same number of tokens.
    never = _config().vocab_size

    def ours() -> float:
        return _rate(
            ROWS * NEW_TOKENS, lambda: decode(model, [prompt] * ROWS, NEW_TOKENS, never, choose)
        )

    def theirs() -> float:
        ids = torch.tensor([prompt] * ROWS)
        return _rate(
            ROWS * NEW_TOKENS,
            lambda: model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=0.95,
                max_new_tokens=NEW_TOKENS,
                min_new_tokens=NEW_TOKENS,
                pad_token_id=0,
            ),
        )

    return ours, theirs


def _batch() -> torch.Tensor:
    return torch.randint(10, 40_000, (EXAMPLES, TOKENS), generator=torch.Generator().manual_seed(5))


def _train() -> tuple[Measure, Measure]:
    from palimpsest.api.generator import Lora  # noqa: PLC0415
    from palimpsest_stage.dp.sgd import clipped_sum, noisy_mean  # noqa: PLC0415
    from palimpsest_stage.gradients import micro_batches, per_example_gradients  # noqa: PLC0415
    from palimpsest_stage.lora import Adapters  # noqa: PLC0415
    from palimpsest_stage.text import Layout  # noqa: PLC0415
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415

    private = _model()
    adapters = Adapters(private, Lora(rank=4))
    shape = Layout((1,), "", 2, TOKENS)
    rows = [row[1:].tolist() for row in _batch()]

    def dp_step() -> None:
        total = torch.zeros(adapters.size, dtype=torch.float64)
        for batch in micro_batches(rows, shape, EXAMPLES):
            total += clipped_sum(per_example_gradients(private, adapters, batch), 1.0)
        noisy_mean(total, torch.randn(adapters.size, dtype=torch.float64), 1.0, 1.0, EXAMPLES)

    plain = get_peft_model(
        _model(),
        LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    tokens = _batch()

    def step() -> None:
        plain.zero_grad()
        plain(input_ids=tokens, labels=tokens).loss.backward()

    return lambda: _rate(EXAMPLES, dp_step), lambda: _rate(EXAMPLES, step)


def _gate() -> tuple[Measure, Measure]:
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent, rdp  # noqa: PLC0415
    from palimpsest.privacy.gate import renyi_cost  # noqa: PLC0415
    from palimpsest.privacy.mechanisms import PoissonSubsampledGaussian  # noqa: PLC0415

    fresh = iter(range(1, 1_000_000))

    def noises() -> list[str]:
        # Costs are remembered: every call asks for noise that nobody asked for before.
        return [f"0.8{next(fresh):06d}1" for _ in range(20)]

    def milliseconds(price: Callable[[str], object]) -> float:
        asked = noises()
        began = time.perf_counter()
        for noise in asked:
            price(noise)
        return 1000 * (time.perf_counter() - began) / len(asked)

    def ours(noise: str) -> object:
        mechanism = PoissonSubsampledGaussian(
            batch=256, records=15_000, noiseMultiplier=noise, steps=32
        )
        return renyi_cost(mechanism, 8)

    def theirs(noise: str) -> object:
        accountant = rdp.RdpAccountant([8.0])
        one = PoissonSampledDpEvent(256 / 15_000, GaussianDpEvent(float(noise)))
        accountant.compose(SelfComposedDpEvent(one, 32))
        return accountant.get_epsilon(1e-5)

    return lambda: milliseconds(ours), lambda: milliseconds(theirs)


BENCHMARKS = (
    Benchmark(
        "decode",
        "tokens/s",
        "higher",
        f"decode loop, {ROWS} rows, nucleus 0.95, SmolLM2-135M's shape, bfloat16",
        "transformers.generate, the same",
        2.0,
        _decode,
    ),
    Benchmark(
        "dp-step",
        "examples/s",
        "higher",
        f"DP-SGD gradient, LoRA rank 4, every linear layer, {EXAMPLES} x {TOKENS} tokens, bfloat16",
        "PEFT's LoRA gradient without privacy, the same",
        0.7,
        _train,
    ),
    Benchmark(
        "gate-price",
        "ms",
        "lower",
        "price of a training at the gate's order, 80-digit decimals",
        "dp-accounting's RdpAccountant at the same order",
        0.5,
        _gate,
    ),
)
