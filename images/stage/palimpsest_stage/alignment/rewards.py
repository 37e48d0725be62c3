"""Rewards: a number for each answer to an instruction; higher is better."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from palimpsest.api.task import ArtifactInput, EndpointInput, RewardParameters

from palimpsest_stage.chat import check_scoring
from palimpsest_stage.errors import ModelUnsuitable
from palimpsest_stage.models import best_device, check_vocabulary
from palimpsest_stage.runtime import Context

# Where in a spec the model of an input is named.
FIELDS = {"reward": "spec.reward.model", "judge": "spec.evaluation.judge.model"}
TRAINED = "spec.reward.trained"
BATCH = 16
# Rewards closer than this tell nothing apart.
TIE = 1e-6
# Words that an answer needs for the full length.
ENOUGH = 16
# Letters from which on a word says what a question is about.
LONG = 4


class Reward(Protocol):
    """Scores answers."""

    def __call__(self, instructions: Sequence[str], answers: Sequence[str]) -> list[float]:
        """One number for each answer."""


def load(context: Context, name: str, parameters: RewardParameters) -> Reward:
    """The built-in reward, or the input called so. Raises ModelUnsuitable, EndpointFailed."""
    if parameters.built_in is not None:
        return BuiltInReward(parameters.built_in)
    given = context.task.inputs.get(name)
    if isinstance(given, EndpointInput):
        # Only here: what speaks HTTP is of no use to a pod that runs a model.
        from palimpsest_stage.alignment.asked import Asked  # noqa: PLC0415

        return Asked(context, name, parameters, context.progress).mark
    if isinstance(given, ArtifactInput):
        return RewardModel(context.artifact(name), TRAINED, parameters.chat_template)
    return RewardModel(context.model(name), FIELDS[name], parameters.chat_template)


class BuiltInReward:
    """A formula over words."""

    def __init__(self, name: str) -> None:
        self._formula = {"Informative": informative, "OnTopic": on_topic}[name]

    def __call__(self, instructions: Sequence[str], answers: Sequence[str]) -> list[float]:
        """One number for each answer."""
        return [self._formula(*pair) for pair in zip(instructions, answers, strict=True)]


def informative(instruction: str, answer: str) -> float:
    """length * novelty * variety.

    length: the answer's words over ENOUGH, at most 1. novelty: the share of its words that the
    instruction has not. variety: its different words over all.
    """
    asked, told = set(_words(instruction)), _words(answer)
    if not told:
        return 0.0
    length = min(1.0, len(told) / ENOUGH)
    novelty = sum(word not in asked for word in told) / len(told)
    return length * novelty * len(set(told)) / len(told)


def on_topic(instruction: str, answer: str) -> float:
    """The harmonic mean of coverage and novelty.

    coverage: the share of the instruction's words of LONG letters or more that the answer takes up.
    novelty: the share of the answer's different words that the instruction has not.
    """
    asked, told = set(_words(instruction)), set(_words(answer))
    topic = {word for word in asked if len(word) >= LONG} or asked
    if not told or not topic:
        return 0.0
    coverage, novelty = len(topic & told) / len(topic), len(told - asked) / len(told)
    return 2 * coverage * novelty / (coverage + novelty) if coverage + novelty else 0.0


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


class RewardModel:
    """A sequence classifier with one output."""

    def __init__(self, folder: Path, field: str, chat_template: str | None) -> None:
        """Raises ModelUnsuitable."""
        # Not from the package's root: its lazy loader looks at every module on the way.
        from transformers import (  # noqa: PLC0415 - 4 s
            AutoModelForSequenceClassification,
            AutoTokenizer,
        )

        check_head(folder, field)
        local = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, **local)
            model, loaded = AutoModelForSequenceClassification.from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                **local,
            )
        except (OSError, ValueError, KeyError) as error:
            raise ModelUnsuitable(f"{field}: no classifier in safetensors: {error}") from error
        # Such weights would be random, and the reward with them.
        if loaded["missing_keys"]:
            missing = ", ".join(sorted(loaded["missing_keys"]))
            raise ModelUnsuitable(f"{field}: its files lack {missing}")
        check_vocabulary(model, self._tokenizer)
        if chat_template is not None:
            self._tokenizer.chat_template = chat_template
        # Without one it is shown a pair of texts.
        if self._tokenizer.chat_template is not None:
            check_scoring(self._tokenizer, field)
        self._model = model.to(best_device()).eval().requires_grad_(False)
        # Without a token that both take for padding, one at a time.
        pad = self._tokenizer.pad_token_id
        padded = pad is not None and model.config.get_text_config().pad_token_id == pad
        self._batch = BATCH if padded else 1
        longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self._longest = min(longest or 4096, self._tokenizer.model_max_length)

    @torch.inference_mode()
    def __call__(self, instructions: Sequence[str], answers: Sequence[str]) -> list[float]:
        """One number for each answer."""
        found: list[float] = []
        for first in range(0, len(answers), self._batch):
            some = slice(first, first + self._batch)
            given = self._encode(list(instructions[some]), list(answers[some]))
            logits = self._model(**given.to(self._model.device)).logits
            found += logits[:, 0].float().tolist()
        return found

    def _encode(self, instructions: list[str], answers: list[str]) -> Any:
        cut = {
            "truncation": True,
            "max_length": self._longest,
            "padding": self._batch > 1,
            "return_tensors": "pt",
        }
        if self._tokenizer.chat_template is None:
            return self._tokenizer(instructions, answers, **cut)
        texts = [
            conversation(self._tokenizer, asked, told)
            for asked, told in zip(instructions, answers, strict=True)
        ]
        return self._tokenizer(texts, add_special_tokens=False, **cut)


def conversation(tokenizer: Any, instruction: str, answer: str) -> str:
    """What a reward model is shown, in its chat format."""
    turns = [{"role": "user", "content": instruction}, {"role": "assistant", "content": answer}]
    text: str = tokenizer.apply_chat_template(turns, tokenize=False)
    return text


def architecture(folder: Path, field: str) -> tuple[str, int]:
    """What a model's files hold, and for how many labels. Raises ModelUnsuitable."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        made = str((config.get("architectures") or ["unknown"])[0])
        # transformers keeps the number of labels only where there are names for other than two.
        labels = config.get("num_labels", len(config.get("id2label", {"0": "", "1": ""})))
    except (OSError, ValueError, AttributeError, TypeError, IndexError) as error:
        raise ModelUnsuitable(f"{field}: its config.json cannot be read") from error
    return made, labels


CLASSIFIER = "ForSequenceClassification"


def check_head(folder: Path, field: str) -> None:
    """Raises ModelUnsuitable unless the model's head gives one number for a sequence."""
    made, labels = architecture(folder, field)
    if not made.endswith(CLASSIFIER):
        raise ModelUnsuitable(
            f"{field}: {made} gives no reward: take a sequence classifier "
            f"(...{CLASSIFIER}) with one output"
        )
    if labels != 1:
        raise ModelUnsuitable(
            f"{field}: a classifier of {labels} labels gives no reward: take one with one output "
            "(num_labels 1)"
        )
