"""python -m bench.plain_trl METHOD MODEL DATA OUT SEED: a script of TRL alone.

Prints the seconds that its training took.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import (
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    SFTConfig,
    SFTTrainer,
)

COMMON: dict[str, Any] = {
    "learning_rate": 5e-4,
    "lr_scheduler_type": "linear",
    "gradient_checkpointing": False,
    "bf16": False,
    "use_cpu": True,
    "logging_steps": 1,
    "save_total_limit": 1,
    "report_to": [],
    "disable_tqdm": True,
}


def informative(prompts: list[Any], completions: list[Any], **_more: Any) -> list[float]:
    """The stage's reward of that name."""
    from palimpsest_stage.alignment import rewards  # noqa: PLC0415 - no part of other methods

    return [
        rewards.informative(prompt[-1]["content"], completion[0]["content"])
        for prompt, completion in zip(prompts, completions, strict=True)
    ]


def trainer(
    method: str, model: Any, tokenizer: Any, rows: list[dict[str, str]], out: str, seed: int
) -> Any:
    """The settings are those of bench.alignments."""
    asked = [[{"role": "user", "content": row["instruction"]}] for row in rows]
    common = {**COMMON, "output_dir": out, "seed": seed}
    own: tuple[Any, Any, list[dict[str, Any]], dict[str, Any]]
    if method == "sft":
        data = [
            {"prompt": prompt, "completion": _told(row["answer"])}
            for prompt, row in zip(asked, rows, strict=True)
        ]
        config = SFTConfig(
            **common,
            num_train_epochs=1,
            per_device_train_batch_size=16,
            warmup_steps=2,
            max_length=96,
            completion_only_loss=True,
        )
        own = SFTTrainer, config, data, {}
    elif method == "dpo":
        data = [
            {"prompt": prompt, "chosen": _told(row["chosen"]), "rejected": _told(row["rejected"])}
            for prompt, row in zip(asked, rows, strict=True)
        ]
        config = DPOConfig(
            **common,
            num_train_epochs=1,
            per_device_train_batch_size=16,
            warmup_steps=2,
            max_length=96,
            beta=0.1,
        )
        own = DPOTrainer, config, data, {}
    else:
        config = GRPOConfig(
            **common,
            max_steps=2,
            per_device_train_batch_size=16,
            num_generations=4,
            max_completion_length=24,
            beta=0.05,
        )
        own = (
            GRPOTrainer,
            config,
            [{"prompt": each} for each in asked],
            {"reward_funcs": informative},
        )
    kind, settings, examples, more = own
    return kind(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(examples),
        args=settings,
        peft_config=LoraConfig(
            r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        **more,
    )


def _told(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def main(method: str, folder: str, data: str, out: str, seed: str) -> None:
    """Train, merge, save."""
    rows = [json.loads(line) for line in Path(data).read_text().splitlines()]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    training = trainer(method, model, tokenizer, rows, out, int(seed))
    began = time.perf_counter()
    training.train()
    seconds = time.perf_counter() - began
    training.model.merge_and_unload().save_pretrained(out)
    tokenizer.save_pretrained(out)
    print(f"trained in {seconds:.2f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
