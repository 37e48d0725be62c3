"""How an aligned model is measured against its base model, and what it must reach."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from .base import ApiModel, Digest, FractionDecimal, ObjectUri, UnitDecimal
from .common import rule
from .rewards import Judge

# The published file that says which gates a model failed, as a GateReport.
GATES = "gates.json"


class Gates(ApiModel):
    """Bounds on the evaluation's figures."""

    min_win_rate: UnitDecimal | None = Field(
        None,
        description="The least share of prompts, ties counted half, that the judge must give to "
        "the aligned model against its base model.",
    )
    max_nll_increase: FractionDecimal | None = Field(
        None,
        alias="maxNLLIncrease",
        description="By how much, in nats a token, the prompts' own answers may become less "
        "likely.",
    )
    max_refusal_share: FractionDecimal | None = Field(
        None, description="The largest share of prompts that the aligned model may refuse."
    )
    min_checks_kept: UnitDecimal | None = Field(
        None,
        description="The least share of the prompts with `checks` all of whose checks the aligned "
        "model's answer must keep.",
    )


class Evaluation(ApiModel):
    """Public prompts that the model answers before and after."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!has(self.gates) || !has(self.gates.minWinRate) || has(self.judge)",
                    "gates.minWinRate needs judge: what tells whose answer is better",
                )
            ]
        }
    )

    prompts: ObjectUri = Field(
        description="JSONL of public prompts, field `instruction`, and with an `answer` its "
        "likelihood is measured too, with `checks` whether an answer keeps them (docs/alignment.md "
        "lists them); never the private data."
    )
    digest: Digest = Field(description="SHA-256 of that file.")
    count: Annotated[int, Field(ge=1, le=10_000)] = Field(
        8, description="Prompts to take, from the first."
    )
    max_new_tokens: Annotated[int, Field(ge=1, le=4096)] = Field(
        48, description="Tokens of an answer at most."
    )
    judge: Judge | None = Field(
        None,
        description="Tells whose answer to each prompt is better, by a number for each or, an "
        "endpoint, by comparing them in both orders; never the reward that trained.",
    )
    gates: Gates | None = Field(
        None,
        description="A model beyond one of these bounds is published, but the run ends Stalled "
        "with reason GateFailed.",
    )


Figure = Annotated[
    str, StringConstraints(pattern=r"^(-?[0-9]{1,9}\.[0-9]{4}|nan|inf)$", max_length=16)
]


class FailedGate(ApiModel):
    """A figure beyond its bound."""

    gate: Literal["minWinRate", "maxNLLIncrease", "maxRefusalShare", "minChecksKept"]
    figure: Figure
    bound: Annotated[str, StringConstraints(max_length=20)]


class GateReport(ApiModel):
    """Which gates a model failed."""

    failed: list[FailedGate] = Field(max_length=8)
