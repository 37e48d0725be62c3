"""Stage dpo: direct preference optimisation with LoRA against the base model."""

from typing import Any

from datasets import Dataset
from palimpsest.api.task import DpoParameters, EndpointInput, FileInput
from trl import DPOConfig, DPOTrainer

from palimpsest_stage.alignment import card, preferences, rewards, tuning
from palimpsest_stage.alignment.preferences import Pair, Ranked
from palimpsest_stage.alignment.stage import Trained, align
from palimpsest_stage.alignment.turns import turn
from palimpsest_stage.errors import DatasetUnsuitable
from palimpsest_stage.models import check_positions, suit_length
from palimpsest_stage.runtime import Context


def run(context: Context, _report: dict[str, Any]) -> None:
    """Publish the model that prefers what the pairs prefer."""
    parameters = context.parameters(DpoParameters)
    # A model that ranks makes room for the base model; an endpoint is paid for no base model that
    # does not suit.
    paid = isinstance(context.task.inputs.get("reward"), EndpointInput)
    before = None if paid else _ranked(context, parameters)

    def train(model: Any, tokenizer: Any) -> Trained:
        check_positions(model, parameters.max_length, "dpo.maxLength")
        ranked = before or _ranked(context, parameters)
        return prefer(context, parameters, ranked, model, tokenizer)

    align(context, parameters, train)


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
    rows = [learnt(tokenizer, pair) for pair in ranked.pairs]
    # Of the others no token of an answer would be left.
    rows = [row for row in rows if len(row["prompt_ids"]) < parameters.max_length]
    if not rows:
        raise DatasetUnsuitable(
            f"no answer begins within {parameters.max_length} tokens: raise dpo.maxLength"
        )
    trainer = Trainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(rows),
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
        "pairs": len(rows),
        "ties": ranked.ties,
        "withoutChoice": ranked.without_choice,
        "unscored": ranked.unscored,
        "tooLong": len(ranked.pairs) - len(rows),
    }
    return Trained(
        model=tuning.finished(trainer, parameters),
        method="DPO",
        summary={**counts, "loss": curve},
        learnt=f"Trained to prefer the better of two answers {_asked(parameters, len(rows))} "
        f"({ranked.ties} ties dropped).",
        settings={
            "preferences": _source(context, parameters),
            "beta": parameters.beta,
            "epochs": str(parameters.epochs),
            "batch": f"{parameters.batch_size} pairs",
            "tokens": f"at most {parameters.max_length}",
        },
        losses=[one["loss"] for one in curve],
    )


def learnt(tokenizer: Any, pair: Pair) -> dict[str, list[int]]:
    """A pair in tokens."""
    chosen = turn(tokenizer, pair.instruction, pair.chosen, pair.chosen_cut)
    rejected = turn(tokenizer, pair.instruction, pair.rejected, pair.rejected_cut)
    shared = min(chosen.prompt, rejected.prompt, key=len)
    return {
        "prompt_ids": shared,
        "chosen_ids": [*chosen.prompt, *chosen.answer][len(shared) :],
        "rejected_ids": [*rejected.prompt, *rejected.answer][len(shared) :],
    }


class Trainer(DPOTrainer):  # type: ignore[misc]
    """TRL's trainer of pairs that are in tokens already."""

    def _prepare_dataset(self, dataset: Dataset, *_given: Any) -> Dataset:
        return dataset


def _asked(parameters: DpoParameters, pairs: int) -> str:
    if parameters.reward is None:
        return f"in {pairs} pairs of a public file, not of the data set"
    return f"to {pairs} synthetic instructions"


def _source(context: Context, parameters: DpoParameters) -> str:
    if parameters.reward is None:
        return card.pinned(context.input("preferences", FileInput).model_dump())
    return f"ranked by {card.reward(context, parameters.reward)}"
