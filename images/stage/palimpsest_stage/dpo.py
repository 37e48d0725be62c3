"""Stage dpo: direct preference optimisation with LoRA against the base model."""

from functools import partial
from typing import Any

from datasets import Dataset
from palimpsest.api.task import DpoParameters
from trl import DPOConfig, DPOTrainer

from palimpsest_stage.alignment import preferences, rewards, tuning
from palimpsest_stage.alignment.preferences import Ranked
from palimpsest_stage.alignment.stage import Trained, align
from palimpsest_stage.errors import DatasetUnsuitable
from palimpsest_stage.models import suit_length
from palimpsest_stage.runtime import Context


def run(context: Context, _report: dict[str, Any]) -> None:
    """Publish the model that prefers what the pairs prefer."""
    parameters = context.parameters(DpoParameters)
    align(context, parameters, partial(prefer, context, parameters, _ranked(context, parameters)))


def _ranked(context: Context, parameters: DpoParameters) -> Ranked:
    """The pairs. Raises DatasetUnsuitable if there are none."""
    if parameters.reward is None:
        return preferences.read(context, "preferences", "dpo.preferences")
    reward = rewards.load(context, "reward", parameters.reward)
    found = preferences.rank(context.instructions("dataset"), reward)
    if not found.pairs:
        raise DatasetUnsuitable(
            f"no row has a better and a worse answer ({found.without_choice} have fewer than two, "
            f"{found.ties} are ties by the reward, {found.unscored} answers got no number): set "
            "annotation.answers of the data set to 2 or more, with a temperature, or take another "
            "reward"
        )
    return found


def prefer(
    context: Context, parameters: DpoParameters, ranked: Ranked, model: Any, tokenizer: Any
) -> Trained:
    """The adapters off, the model is its own reference."""
    suit_length(model, parameters.max_length)
    trainer = DPOTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(
            [
                {
                    "prompt": [{"role": "user", "content": pair.instruction}],
                    "chosen": [{"role": "assistant", "content": pair.chosen}],
                    "rejected": [{"role": "assistant", "content": pair.rejected}],
                }
                for pair in ranked.pairs
            ]
        ),
        args=DPOConfig(
            **tuning.arguments(context, parameters),
            num_train_epochs=parameters.epochs,
            per_device_train_batch_size=parameters.batch_size,
            lr_scheduler_type="linear",
            warmup_steps=2,
            max_length=parameters.max_length,
            beta=float(parameters.beta),
        ),
        peft_config=tuning.adapters(parameters),
    )
    if len(trainer.train_dataset) == 0:
        raise DatasetUnsuitable(
            f"no answer begins within {parameters.max_length} tokens: raise dpo.maxLength"
        )
    curve = [
        {
            "step": entry["step"],
            "loss": entry["loss"],
            "accuracy": entry["rewards/accuracies"],
            "margin": entry["rewards/margins"],
        }
        for entry in tuning.train(context, trainer)
        if "loss" in entry
    ]
    counts = {
        "pairs": len(ranked.pairs),
        "ties": ranked.ties,
        "withoutChoice": ranked.without_choice,
        "unscored": ranked.unscored,
    }
    return Trained(
        model=tuning.finished(trainer, parameters),
        method="DPO",
        summary={**counts, "loss": curve},
        learnt=f"Trained to prefer the better of two answers to {len(ranked.pairs)} synthetic "
        f"instructions ({ranked.ties} ties dropped).",
        settings={
            "preferences": _source(context, parameters),
            "beta": parameters.beta,
            "epochs": str(parameters.epochs),
            "batch": f"{parameters.batch_size} pairs",
            "tokens": f"at most {parameters.max_length}",
        },
        losses=[one["loss"] for one in curve],
    )


def _source(context: Context, parameters: DpoParameters) -> str:
    if parameters.reward is None:
        return "given with the run"
    return f"ranked by {rewards.named(context, 'reward', parameters.reward)}"
