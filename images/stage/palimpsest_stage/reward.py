"""Stage reward: a reward model from pairs of a better and a worse answer, with LoRA."""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from datasets import Dataset
from palimpsest.api.task import FileInput, RewardModelParameters
from trl import RewardConfig, RewardTrainer

from palimpsest_stage.alignment import preferences, tuning
from palimpsest_stage.alignment.heads import load_headed
from palimpsest_stage.alignment.preferences import Pair
from palimpsest_stage.alignment.rewards import TRAINED, RewardModel, conversation
from palimpsest_stage.alignment.statistics import CONFIDENCE, duel, finite
from palimpsest_stage.errors import DatasetUnsuitable
from palimpsest_stage.models import check_positions, suit_length
from palimpsest_stage.runtime import Context, write_json


def run(context: Context, _report: dict[str, Any]) -> None:
    """Publish the reward model and reward.json: how it learnt, and what it knows of other pairs."""
    parameters = context.parameters(RewardModelParameters)
    ranked = preferences.read(context, "preferences", f"{TRAINED}.preferences")
    model, tokenizer = load_headed(
        context.model("base"), parameters.chat_template, context.seed("head")
    )
    check_positions(model, parameters.max_length, f"{TRAINED}.maxLength")
    pairs = [pair for pair in ranked.pairs if _fits(tokenizer, pair, parameters.max_length)]
    if not pairs:
        raise DatasetUnsuitable(
            f"{TRAINED}.maxLength: no pair fits into {parameters.max_length} tokens: raise it"
        )
    learnt, held = preferences.split(pairs, Decimal(parameters.held_out_share))
    if not held:
        raise DatasetUnsuitable(
            f"{TRAINED}.preferences: all pairs are of one instruction, so none can be held out to "
            "measure the reward model by: add pairs of others"
        )

    curve, model = _train(context, parameters, learnt, model, tokenizer)

    out, base = context.folder("out"), tuning.base(context)
    tuning.save(model.to(torch.bfloat16), tokenizer, out, base)
    del model
    given = context.input("preferences", FileInput)
    write_json(
        out / "reward.json",
        {
            "base": tuning.reference(base),
            "preferences": {"uri": given.uri, "digest": given.digest},
            "pairs": len(learnt),
            "ties": ranked.ties,
            "tooLong": len(ranked.pairs) - len(pairs),
            "heldOut": measure(out, held),
            "loss": curve,
        },
    )
    context.publish({path.name: path for path in out.iterdir() if path.is_file()})


def _train(
    context: Context,
    parameters: RewardModelParameters,
    pairs: Sequence[Pair],
    model: Any,
    tokenizer: Any,
) -> tuple[list[dict[str, float]], Any]:
    """(the loss at each step, the model with its adapters merged). Raises Diverged."""
    suit_length(model, parameters.max_length)
    cuda = torch.cuda.is_available()
    trainer = RewardTrainer(
        model=model,
        processing_class=tokenizer,
        # In tokens already, as it will be shown them when it scores.
        train_dataset=Dataset.from_list(
            [
                {
                    "chosen_ids": _tokens(tokenizer, pair.instruction, pair.chosen),
                    "rejected_ids": _tokens(tokenizer, pair.instruction, pair.rejected),
                }
                for pair in pairs
            ]
        ),
        args=RewardConfig(
            # A head in bfloat16 would tell too few rewards apart: all is float32, cast on a GPU.
            **tuning.arguments(context, parameters) | {"bf16": cuda},
            num_train_epochs=parameters.epochs,
            per_device_train_batch_size=parameters.batch_size,
            lr_scheduler_type="linear",
            warmup_steps=2,
            max_length=parameters.max_length,
        ),
        peft_config=tuning.adapters(parameters, "SEQ_CLS"),
    )
    curve = [
        {name: entry[name] for name in ("step", "loss", "accuracy", "margin")}
        for entry in tuning.train(context, trainer)
        if "loss" in entry
    ]
    return curve, trainer.model.merge_and_unload().eval()


def measure(folder: Path, pairs: Sequence[Pair]) -> dict[str, Any]:
    """How often the published model prefers what was chosen (a tie counts half), how much so."""
    score = RewardModel(folder, TRAINED, None)
    asked = [pair.instruction for pair in pairs]
    chosen = score(asked, [pair.chosen for pair in pairs])
    rejected = score(asked, [pair.rejected for pair in pairs])
    found = duel(chosen, rejected)
    return {
        "pairs": len(pairs),
        "accuracy": found.rate,
        "low": found.low,
        "high": found.high,
        "confidence": CONFIDENCE,
        "margin": finite(fmean(a - b for a, b in zip(chosen, rejected, strict=True))),
    }


def _fits(tokenizer: Any, pair: Pair, most: int) -> bool:
    both = (pair.chosen, pair.rejected)
    return all(len(_tokens(tokenizer, pair.instruction, told)) <= most for told in both)


def _tokens(tokenizer: Any, instruction: str, answer: str) -> list[int]:
    text = conversation(tokenizer, instruction, answer)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
