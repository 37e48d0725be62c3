"""What tells a better answer from a worse one: a model, a server that is asked, or a formula."""

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from .base import ApiModel, PositiveDecimal, UnitDecimal
from .common import CHECKPOINTS, CheckpointInterval, rule
from .endpoints import ChatEndpoint
from .models import PublicModel
from .preferences import Preferences

BuiltIn = Literal["Informative", "OnTopic"]


def _one_of(*fields: str) -> ConfigDict:
    """A schema that takes exactly one of the fields."""
    given = ", ".join(f"has(self.{field})" for field in fields)
    expression = f"[{given}].filter(given, given).size() == 1"
    extra: dict[str, Any] = {"x-kubernetes-validations": [rule(expression, _said(fields))]}
    return ConfigDict(json_schema_extra=extra)


def _said(fields: tuple[str, ...]) -> str:
    return f"takes exactly one of {', '.join(fields[:-1])} and {fields[-1]}"


class TrainedReward(ApiModel):
    """A reward model that the run itself trains first (Bradley-Terry), with LoRA."""

    preferences: Preferences = Field(description="The pairs to learn from.")
    base_model: PublicModel | None = Field(
        None,
        description="What becomes the reward model: a causal language model, which gets a head of "
        "one output, or a sequence classifier that has one; left out: spec.baseModel.",
    )
    held_out_share: UnitDecimal = Field(
        "0.1",
        description="Share of the instructions whose pairs are held out, to measure the reward "
        "model by: the first in the order of their SHA-256, at least one.",
    )
    epochs: Annotated[int, Field(ge=1, le=100)] = Field(1, description="Passes over the pairs.")
    batch_size: Annotated[int, Field(ge=1, le=4096)] = Field(16, description="Pairs in a step.")
    learning_rate: PositiveDecimal = Field("0.0001", description="Peak of AdamW's schedule.")
    max_length: Annotated[int, Field(ge=16, le=32768)] = Field(
        512,
        description="Tokens of instruction and answer; pairs of which one is longer are left out.",
    )
    lora_rank: Annotated[int, Field(ge=1, le=256)] = Field(8, description="Rank of the adapters.")
    checkpoint_interval: CheckpointInterval = Field(100, description=CHECKPOINTS)


class VerdictEndpoint(ChatEndpoint):
    """A server that says which of two answers is better, or how good one is."""

    max_new_tokens: Annotated[int, Field(ge=1, le=32768)] = Field(
        16,
        description="Tokens of a verdict at most: it is one word, but some models think first. "
        "Its last line counts.",
    )


class Judge(ApiModel):
    """What tells whose answer is better."""

    model_config = _one_of("model", "builtIn", "endpoint")

    model: PublicModel | None = Field(
        None,
        description="A reward model: a sequence classifier with one output (num_labels 1), which "
        "is shown the instruction and the answer in its chat format, or as a pair of texts.",
    )
    built_in: BuiltIn | None = Field(
        None,
        description="A formula from 0 to 1, for trying out (docs/alignment.md). Informative: words "
        "enough, not the question's, not repeated. OnTopic: takes up the question's long words and "
        "adds others. Who echoes the question gets 0 of both.",
    )

    endpoint: VerdictEndpoint | None = Field(
        None,
        description="A server that is asked by OpenAI's protocol, with a fixed rubric "
        "(docs/alignment.md): as a judge, which of two answers is better, in both orders; as a "
        "reward, for a mark from 1 to 10.",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        fields = type(self).model_fields
        if sum(getattr(self, name) is not None for name in fields) != 1:
            raise ValueError(_said(tuple(str(field.alias) for field in fields.values())))
        return self


class Reward(Judge):
    """What scores answers: a number for each; higher is better."""

    model_config = _one_of("model", "builtIn", "endpoint", "trained")

    trained: TrainedReward | None = Field(
        None,
        description="A reward model that the run trains from preferences before it aligns, as a "
        "stage of its own.",
    )
