"""Stage sft: supervised fine-tuning with LoRA on synthetic pairs, merged at the end."""

import json
from typing import Any

import torch
from datasets import Dataset
from palimpsest.api.task import FileInput, SftParameters
from peft import LoraConfig
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from palimpsest_stage.annotate import answer
from palimpsest_stage.answers.finish import usable
from palimpsest_stage.errors import DatasetUnsuitable, InputMismatch
from palimpsest_stage.models import load_causal, suit_length
from palimpsest_stage.runtime import Context, write_json

ANSWER_TOKENS = 48
ANSWER_BATCH = 16
IGNORED = -100


def run(context: Context, _report: dict[str, Any]) -> None:
    """Publish the merged model in Hugging Face's layout, README.md, training and evaluation."""
    parameters = context.parameters(SftParameters)
    rows, left_out = usable(context.instructions("dataset"))
    if not rows:
        raise DatasetUnsuitable("no row has an answer that can be learnt from")
    prompts = read_prompts(context, parameters.evaluation_count)
    model, tokenizer = load_causal(context.model("base"), "bfloat16", parameters.chat_template)
    before = _answers(model, tokenizer, prompts)
    suit_length(model, parameters.max_length)

    model, curve = fine_tune(context, parameters, model, tokenizer, rows)

    out = context.folder("out")
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    after = _answers(model, tokenizer, prompts)
    evaluation = [
        {"instruction": prompt, "before": old, "after": new}
        for prompt, old, new in zip(prompts, before, after, strict=True)
    ]
    write_json(out / "evaluation.json", {"prompts": evaluation})
    write_json(out / "training.json", {"rows": len(rows), "rowsLeftOut": left_out, "loss": curve})
    (out / "README.md").write_text(
        render(context.task.subject.name, parameters, len(rows), evaluation), encoding="utf-8"
    )
    context.publish({path.name: path for path in out.iterdir() if path.is_file()})


def read_prompts(context: Context, count: int) -> list[str]:
    """The first `count` public prompts. Raises InputMismatch."""
    if "evaluation" not in context.task.inputs:
        return []
    context.input("evaluation", FileInput)
    try:
        with context.file("evaluation").open(encoding="utf-8") as file:
            prompts = [str(json.loads(line)["instruction"]) for line in file if line.strip()]
    except (ValueError, KeyError, TypeError) as error:
        raise InputMismatch("evaluation: JSONL with a field `instruction` is needed") from error
    return prompts[:count]


def fine_tune(
    context: Context,
    parameters: SftParameters,
    model: Any,
    tokenizer: Any,
    rows: list[dict[str, Any]],
) -> tuple[Any, list[dict[str, float]]]:
    """(merged model, loss curve). The student learns without the annotator's system prompt."""
    data = Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": row["instruction"]}],
                "completion": [{"role": "assistant", "content": row["answer"]}],
            }
            for row in rows
        ]
    )
    trainer = Trainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=data,
        args=SFTConfig(
            output_dir=str(context.folder("trainer")),
            num_train_epochs=parameters.epochs,
            per_device_train_batch_size=parameters.batch_size,
            learning_rate=float(parameters.learning_rate),
            lr_scheduler_type="linear",
            warmup_steps=2,
            max_length=parameters.max_length,
            completion_only_loss=True,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=not torch.cuda.is_available(),
            seed=context.seed("sft") % 2**31,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
        peft_config=LoraConfig(
            r=parameters.lora_rank,
            lora_alpha=2 * parameters.lora_rank,
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
        callbacks=[_Progress(context)],
    )
    if len(trainer.train_dataset) == 0:
        raise DatasetUnsuitable(f"no answer begins within {parameters.max_length} tokens")
    trainer.train()
    curve = [
        {"step": entry["step"], "loss": entry["loss"]}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
    return trainer.model.merge_and_unload().eval(), curve


class Trainer(SFTTrainer):  # type: ignore[misc]
    """TRL's trainer with a loss that suits a processor."""

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
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
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


class _Progress(TrainerCallback):  # type: ignore[misc]
    """Passes the trainer's steps on."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_kwargs: Any) -> None:
        self._context.progress(state.global_step, state.max_steps, "steps")


def _answers(model: Any, tokenizer: Any, prompts: list[str]) -> list[str]:
    if not prompts:
        return []
    return answer(model, tokenizer, prompts, "", ANSWER_TOKENS, ANSWER_BATCH, _quiet)


def _quiet(_done: int, _total: int, _unit: str) -> None:
    """The stage's progress counts training steps only."""


def render(
    name: str, parameters: SftParameters, rows: int, evaluation: list[dict[str, str]]
) -> str:
    """The model's card."""
    lines = [
        "---",
        "library_name: transformers",
        "tags: [synthetic-data, differential-privacy]",
        "---",
        "",
        f"# {name}",
        "",
        f"Fine-tuned on {rows} synthetic instructions and their answers. No private record was "
        "seen in this step: the model inherits the data set's guarantee.",
        "",
        "## Privacy",
        "",
        parameters.guarantee,
        "",
        "## Training",
        "",
        f"LoRA of rank {parameters.lora_rank} on every linear layer, merged; "
        f"{parameters.epochs} epochs, batches of {parameters.batch_size}, learning rate "
        f"{parameters.learning_rate}; loss on answers only.",
        "",
    ]
    if evaluation:
        lines += ["## Before and after", ""]
    for one in evaluation:
        lines += [
            f"- **{_flat(one['instruction'])}**",
            f"  - before: {_flat(one['before'])}",
            f"  - after: {_flat(one['after'])}",
        ]
    return "\n".join(lines) + "\n"


def _flat(text: str) -> str:
    return " ".join(text.split())[:300]
