"""How every method trains: adapters or all weights, from the last checkpoint on."""

import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from palimpsest.api.task import (
    AlignParameters,
    AnyModelInput,
    ClaimModelInput,
    HubModelInput,
    ModelInput,
    TuningParameters,
)
from peft import LoraConfig
from transformers import TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from palimpsest_stage.alignment.checkpoints import Checkpoints, Keeper
from palimpsest_stage.errors import Diverged, InvalidTask
from palimpsest_stage.parts import CHECKPOINTS
from palimpsest_stage.runtime import Context, write_json

log = logging.getLogger("palimpsest.stage")

BASE = "base.json"
# A figure that is told along the way (palimpsest.api.common.FIGURES), and what TRL logs it as.
FIGURES = {
    "loss": "loss",
    "reward": "reward",
    "kl": "kl",
    "completionTokens": "completions/mean_length",
    "accuracy": "rewards/accuracies",
    "margin": "rewards/margins",
}


@dataclass(frozen=True)
class Bound:
    """How far a logged figure may go, and what to do about one that goes further."""

    name: str
    most: float
    remedy: str


def base(context: Context) -> AnyModelInput:
    """The model that is tuned. Raises InvalidTask if none is given."""
    found = context.task.inputs.get("base")
    if not isinstance(found, ModelInput | HubModelInput | ClaimModelInput):
        raise InvalidTask("inputs: base must be given as a model")
    return found


def checkpoints(context: Context) -> Checkpoints:
    """Where this run's checkpoint lies, whichever pod wrote it."""
    return Checkpoints(context.output, f"{context.prefix}{CHECKPOINTS}")


def prepare(model: Any, parameters: TuningParameters) -> Any:
    """The model as it is to be trained: frozen beneath adapters, or every weight in float32."""
    return model if parameters.lora_rank else model.float().requires_grad_(True)


def adapters(parameters: TuningParameters, task: str = "CAUSAL_LM") -> LoraConfig | None:
    """Adapters on every linear layer; None where every weight is trained.

    With task SEQ_CLS the head is trained whole beside them.
    """
    if parameters.lora_rank is None:
        return None
    return LoraConfig(
        r=parameters.lora_rank,
        lora_alpha=2 * parameters.lora_rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type=task,
    )


def arguments(context: Context, parameters: TuningParameters) -> dict[str, Any]:
    """The trainer's settings that no method has its own of."""
    cuda = torch.cuda.is_available()
    return {
        "output_dir": str(context.folder("trainer")),
        "learning_rate": float(parameters.learning_rate),
        "gradient_checkpointing": False,
        # Adapters are float32 above a bfloat16 model; only float32 weights are worth casting.
        "bf16": cuda and parameters.lora_rank is None,
        "use_cpu": not cuda,
        "seed": seed_of(context),
        "logging_steps": 1,
        # What is no number must be seen, not averaged away.
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": parameters.checkpoint_interval,
        "save_total_limit": 1,
        "report_to": [],
        "disable_tqdm": True,
    }


def seed_of(context: Context) -> int:
    """Of a training: of the order of its data, and of what a policy samples."""
    return context.seed(context.task.parameters.stage) % 2**31


def settings(parameters: AlignParameters) -> dict[str, str]:
    """The same for people to read."""
    rank = parameters.lora_rank
    kind = f"LoRA of rank {rank} on every linear layer" if rank else "every weight"
    merged = ("merged" if parameters.merge else "published alone") if rank else "published whole"
    return {"trained": f"{kind}, {merged}", "learning rate": parameters.learning_rate}


def train(
    context: Context, trainer: Any, bounds: dict[str, Bound] | None = None
) -> list[dict[str, Any]]:
    """Train to the end, from the last checkpoint if there is one; what was logged at each step.

    Raises Diverged at a step whose loss is no number, or a figure in `bounds` none or above it.
    """
    kept = checkpoints(context)
    trainer.add_callback(Progress(context))
    trainer.add_callback(Watch(context, bounds or {}))
    trainer.add_callback(Keeper(kept, context.attempt))
    found = kept.latest(context.folder("resumed"))
    if found:
        log.info("going on from step %s", found.name.rpartition("-")[2])
        state = TrainerState.load_from_json(str(found / TRAINER_STATE_NAME))
        if state.global_step >= state.max_steps:
            # The trainer would take one step more before it looks whether it is to.
            trainer._load_from_checkpoint(str(found))
            return list(state.log_history)
    began = time.perf_counter()
    trainer.train(resume_from_checkpoint=str(found) if found else None)
    log.info("trained in %.2f s", time.perf_counter() - began)
    logged: list[dict[str, Any]] = trainer.state.log_history
    return logged


def finished(trainer: Any, parameters: AlignParameters) -> Any:
    """The trained model, merged unless adapters alone are wanted, in evaluation mode."""
    model = trainer.model
    if parameters.lora_rank is None:
        model = model.to(torch.bfloat16)
    elif parameters.merge:
        model = model.merge_and_unload()
    return model.eval()


def save(model: Any, tokenizer: Any, folder: Path, tuned: AnyModelInput) -> None:
    """Write the model, or its adapters beside a word on what they belong to."""
    told = reference(tuned)
    if hasattr(model, "peft_config"):
        for config in model.peft_config.values():
            config.base_model_name_or_path = told["uri"]
            config.revision = told.get("revision")
        write_json(folder / BASE, told)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def reference(tuned: AnyModelInput) -> dict[str, str]:
    """What the base model is, for people and for PEFT: where it is, and the digest that pins it."""
    if isinstance(tuned, HubModelInput):
        return {"uri": tuned.repository, "revision": tuned.revision, "digest": tuned.digest}
    if isinstance(tuned, ClaimModelInput):
        return {"uri": f"pvc://{tuned.claim}/{tuned.path}", "digest": tuned.digest}
    return {"uri": tuned.uri, "digest": tuned.digest}


class Progress(TrainerCallback):  # type: ignore[misc]
    """Passes the trainer's steps on."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_log(
        self, _args: Any, state: Any, _control: Any, logs: dict[str, Any], **_kwargs: Any
    ) -> None:
        # Every step is logged, and at last the whole training.
        if "loss" in logs:
            self._context.progress(
                state.global_step, state.max_steps, "steps", figures=_figures(logs)
            )


def _figures(logs: dict[str, Any]) -> dict[str, float]:
    """Those that a step has and that are numbers."""
    told = {name: logs[key] for name, key in FIGURES.items() if logs.get(key) is not None}
    return {name: float(value) for name, value in told.items() if math.isfinite(float(value))}


class Watch(TrainerCallback):  # type: ignore[misc]
    """Ends a training that diverged."""

    def __init__(self, context: Context, bounds: dict[str, Bound]) -> None:
        self._context = context
        self._bounds = {"loss": Bound("the loss", math.inf, "lower learningRate"), **bounds}

    def on_log(
        self, _args: Any, state: Any, _control: Any, logs: dict[str, Any], **_kwargs: Any
    ) -> None:
        """Raises Diverged."""
        for name, bound in self._bounds.items():
            # TRL logs None where every value was NaN.
            figure = math.nan if logs.get(name, 0.0) is None else float(logs.get(name, 0.0))
            if not math.isfinite(figure) or figure > bound.most:
                step = state.global_step
                told = _figures(logs)
                self._context.progress(step, state.max_steps, "steps", last=True, figures=told)
                above = f", above {bound.most:g}" if math.isfinite(bound.most) else ""
                raise Diverged(f"step {step}: {bound.name} is {figure:g}{above}: {bound.remedy}")
