"""Stage sft: supervised fine-tuning on synthetic pairs."""

from functools import partial
from typing import Any

import torch
from datasets import Dataset
from palimpsest.api.task import SftParameters
from trl import SFTConfig, SFTTrainer

from palimpsest_stage.alignment import tuning
from palimpsest_stage.alignment.packing import IGNORED, PackedRows, check_apart
from palimpsest_stage.alignment.stage import Trained, align
from palimpsest_stage.alignment.turns import turn
from palimpsest_stage.answers.finish import Finish, usable
from palimpsest_stage.errors import DatasetUnsuitable
from palimpsest_stage.models import check_positions, suit_length
from palimpsest_stage.runtime import Context


def run(context: Context, _report: dict[str, Any]) -> None:
    """Publish the tuned model."""
    parameters = context.parameters(SftParameters)
    rows, left_out = usable(context.instructions("dataset"))
    if not rows:
        raise DatasetUnsuitable("no row has an answer that can be learnt from")
    align(context, parameters, partial(fine_tune, context, parameters, rows, left_out))


def fine_tune(
    context: Context,
    parameters: SftParameters,
    rows: list[dict[str, Any]],
    left_out: dict[str, int],
    model: Any,
    tokenizer: Any,
) -> Trained:
    """The student learns without the annotator's system prompt."""
    check_positions(model, parameters.max_length, "sft.maxLength")
    suit_length(model, parameters.max_length)
    if parameters.packing:
        check_apart(model)
    most = parameters.max_length
    pairs = [learnt(tokenizer, row) for row in rows]
    pairs = [pair for pair in pairs if any(label != IGNORED for label in pair["labels"][:most])]
    if not pairs:
        raise DatasetUnsuitable(f"no answer begins within {most} tokens: raise sft.maxLength")
    trainer = Trainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(pairs),
        args=SFTConfig(
            **tuning.arguments(context, parameters),
            num_train_epochs=parameters.epochs,
            per_device_train_batch_size=parameters.batch_size,
            lr_scheduler_type="linear",
            warmup_steps=2,
            max_length=most,
            packing=parameters.packing,
        ),
        peft_config=tuning.adapters(parameters),
    )
    curve = [
        {"step": entry["step"], "loss": entry["loss"]}
        for entry in tuning.train(context, trainer)
        if "loss" in entry
    ]
    return Trained(
        model=tuning.finished(trainer, parameters),
        method="SFT",
        summary={
            "rows": len(pairs),
            "rowsLeftOut": left_out,
            "tooLong": len(rows) - len(pairs),
            "loss": curve,
        },
        learnt=f"Fine-tuned on {len(pairs)} synthetic instructions and their answers.",
        settings={
            "epochs": str(parameters.epochs),
            "batch": f"{parameters.batch_size} {'packed rows' if parameters.packing else 'pairs'}",
            "tokens": f"at most {most}; loss on answers only",
        },
        losses=[one["loss"] for one in curve],
    )


def learnt(tokenizer: Any, row: dict[str, Any]) -> dict[str, list[int]]:
    """A row in tokens, and which of them the loss is on."""
    cut = row.get("finish") == Finish.LENGTH
    one = turn(tokenizer, row["instruction"], row["answer"], cut)
    return {
        "input_ids": [*one.prompt, *one.answer],
        "labels": [IGNORED] * len(one.prompt) + one.answer,
    }


_SEEN = ("input_ids", "attention_mask", "position_ids")


class Trainer(SFTTrainer):  # type: ignore[misc]
    """TRL's trainer with a loss that suits a processor, and packed rows that stay rows."""

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        if self.args.packing:
            self.data_collator = PackedRows(self.processing_class.pad_token_id)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The same mean over the answers' tokens.

        TRL's fused head bounds an accelerator's memory by walking over every position in small
        pieces, prompts and padding included; on a processor that is more than half of a step.
        """
        if model.device.type != "cpu":
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs["labels"][:, 1:]
        wanted = (labels != IGNORED).any(0).nonzero()[:, 0]
        outputs = model(
            **{key: inputs[key] for key in _SEEN if key in inputs},
            logits_to_keep=wanted,
            use_cache=False,
        )
        targets = labels[:, wanted]
        known = targets != IGNORED
        losses = torch.nn.functional.cross_entropy(
            outputs.logits[known].float(), targets[known], reduction="sum"
        )
        loss = losses / (known.sum() if num_items_in_batch is None else num_items_in_batch)
        return (loss, outputs) if return_outputs else loss
