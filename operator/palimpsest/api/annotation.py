"""What answers a data set's instructions: a model, an endpoint, or people."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from .base import ApiModel, Digest, ObjectUri, PositiveDecimal, UnitDecimal
from .common import rule
from .endpoints import ChatEndpoint
from .models import PublicModel

_ONE = "annotation takes exactly one of model, endpoint and human: what answers the instructions"


class TokenPrices(ApiModel):
    """What a million tokens costs, in a currency of yours. For the report alone."""

    input: PositiveDecimal = Field(description="Of the instructions and the system prompt.")
    output: PositiveDecimal = Field(description="Of the answers.")


class AnnotationEndpoint(ChatEndpoint):
    """A server that speaks OpenAI's protocol (chat completions), in the cluster or outside."""

    prices: TokenPrices | None = Field(
        None, description="For the cost in annotation.json; left out: none is told."
    )


class HumanAnswers(ApiModel):
    """A file of answers, in the output's store."""

    uri: ObjectUri = Field(
        description="JSONL of rows {id, answer} or {id, answers: [...]}, joined to the "
        "instructions by id."
    )
    digest: Digest = Field(description="SHA-256 of that file.")


class HumanAnnotation(ApiModel):
    """People answer: the data set waits for them once its instructions are there."""

    answers: HumanAnswers | None = Field(
        None,
        description="Set once, when they are there; until then the condition names the file of "
        "instructions to answer (reason WaitingForAnswers).",
    )


class Annotation(ApiModel):
    """What answers the instructions, and how."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "[has(self.model), has(self.endpoint), has(self.human)]"
                    ".filter(given, given).size() == 1",
                    _ONE,
                )
            ]
        }
    )

    model: PublicModel | None = Field(
        None, description="Causal language model that the stage's own pod runs."
    )
    endpoint: AnnotationEndpoint | None = Field(
        None, description="Server that is asked instead, by OpenAI's protocol."
    )
    human: HumanAnnotation | None = Field(
        None, description="People answer instead; what follows here is not for them."
    )
    system_prompt: Annotated[str, StringConstraints(max_length=2048)] = Field(
        "", description="Public instructions to the annotating model."
    )
    max_new_tokens: Annotated[int, Field(ge=1, le=32768)] = Field(
        32, description="Tokens of an answer at most."
    )
    batch_size: Annotated[int, Field(ge=1, le=4096)] = Field(
        64, description="With model: answers generated at once."
    )
    answers: Annotated[int, Field(ge=1, le=16)] = Field(
        1, description="Answers to each instruction. Duplicates stay."
    )
    temperature: PositiveDecimal | None = Field(
        None,
        description="Softmax temperature of sampled answers; left out: 1.0 with several answers, "
        "and with one the likeliest tokens are taken (an endpoint is asked for temperature 0).",
    )
    top_p: UnitDecimal = Field(
        "0.95", description="Nucleus of sampled answers, as sampling.topP is of instructions."
    )

    @model_validator(mode="after")
    def _one_answers(self) -> Self:
        if sum(each is not None for each in (self.model, self.endpoint, self.human)) != 1:
            raise ValueError(_ONE)
        return self

    @property
    def sampled_at(self) -> str | None:
        """The temperature; None: the likeliest tokens."""
        return self.temperature or ("1.0" if self.answers > 1 else None)


def _unchanged(field: str) -> str:
    new, old = f"self.annotation.{field}", f"oldSelf.annotation.{field}"
    return f"has({new}) == has({old}) && (!has({new}) || {new} == {old})"


_ANSWERS_COME = " && ".join(
    [
        "has(self.annotation.human)",
        "has(oldSelf.annotation.human)",
        "!has(oldSelf.annotation.human.answers)",
        *(
            _unchanged(field)
            for field in (
                "systemPrompt",
                "maxNewTokens",
                "batchSize",
                "answers",
                "temperature",
                "topP",
            )
        ),
    ]
)
# Of the spec that holds it, as `common.immutable`, but that people's answers may come.
IMMUTABLE = rule(
    "has(self.annotation) == has(oldSelf.annotation) && (!has(self.annotation) || "
    f"self.annotation == oldSelf.annotation || ({_ANSWERS_COME}))",
    "spec.annotation is immutable, but for human.answers, which may be set once: make another "
    "SyntheticDataset",
)
