"""The benchmarks."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from bench import admission, alignments, ledger, million, sampling, scale, start, training
from bench.decoding import at_full_length
from bench.harness import Benchmark, Pair, Survey
from bench.rates import rate, smollm2

ROWS, NEW_TOKENS = 64, 24
PAIRS, PAIR_TOKENS = 16, 96


def _decode(_: ExitStack) -> Pair:
    return at_full_length(smollm2()[0], list(range(10, 20)), ROWS, NEW_TOKENS)


def _fine_tuning(_: ExitStack) -> Pair:
    import tempfile  # noqa: PLC0415

    from cluster import parts  # noqa: PLC0415
    from datasets import Dataset  # noqa: PLC0415
    from palimpsest_stage.models import suit_length  # noqa: PLC0415
    from palimpsest_stage.sft import Trainer  # noqa: PLC0415
    from peft import LoraConfig  # noqa: PLC0415
    from trl import SFTConfig, SFTTrainer  # noqa: PLC0415

    model, tokenizer = smollm2()
    suit_length(model, PAIR_TOKENS)
    questions = parts.questions().held_out.read_text().splitlines()[: 2 * PAIRS]
    texts = [json.loads(line)["instruction"] for line in questions]
    trainer = Trainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(
            [
                {
                    "prompt": [{"role": "user", "content": texts[index]}],
                    "completion": [{"role": "assistant", "content": 3 * texts[-index - 1]}],
                }
                for index in range(PAIRS)
            ]
        ),
        args=SFTConfig(
            output_dir=tempfile.gettempdir(),
            per_device_train_batch_size=PAIRS,
            max_length=PAIR_TOKENS,
            completion_only_loss=True,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            report_to=[],
        ),
        peft_config=LoraConfig(
            r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )
    batch = next(iter(trainer.get_train_dataloader()))

    def step(compute: Callable[..., Any]) -> None:
        trainer.model.zero_grad()
        compute(trainer, trainer.model, dict(batch)).backward()

    return Pair(
        rate(PAIRS, lambda: step(Trainer.compute_loss)),
        rate(PAIRS, lambda: step(SFTTrainer.compute_loss)),
    )


# The one that needs a node last: what it starts would disturb the others.
BENCHMARKS: tuple[Benchmark | Survey, ...] = (
    Benchmark(
        "decode",
        "tokens/s",
        "higher",
        f"decode loop, {ROWS} rows, nucleus 0.95, SmolLM2-135M, bfloat16",
        "transformers.generate, the same",
        1.5,
        _decode,
    ),
    Benchmark(
        "sft-step",
        "pairs/s",
        "higher",
        f"gradient of fine-tuning, LoRA rank 8, {PAIRS} pairs of at most {PAIR_TOKENS} tokens, "
        "SmolLM2-135M, bfloat16",
        "TRL's own loss, the same",
        1.5,
        _fine_tuning,
    ),
    *training.BENCHMARKS,
    *alignments.BENCHMARKS,
    sampling.BENCHMARK,
    million.BENCHMARK,
    *ledger.BENCHMARKS,
    admission.BENCHMARK,
    scale.SURVEY,
    start.BENCHMARK,
)
