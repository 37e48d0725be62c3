"""The empirical audit of a training: what is asked, what a stage is told, what it publishes."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from .base import ApiModel, DeltaDecimal, PositiveDecimal, said

# Published beside the release's files.
AUDIT = "audit.json"

_CONFIDENCE = r"^0\.[89][0-9]{0,5}$"
Confidence = Annotated[
    str,
    StringConstraints(pattern=_CONFIDENCE, max_length=8),
    said(_CONFIDENCE, 'must be a decimal from 0.8 to below 1 as a string, for example "0.95"'),
]
Bound = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,2}(\.[0-9]{1,3})?$", max_length=6)]


class Audit(ApiModel):
    """An empirical lower bound on the training's epsilon, held against privacy.epsilon.

    Public canaries (gradients made for the purpose, no records) are in the training or not by
    coins; the more of the coins the noised gradients give away, the larger the true epsilon. A
    release whose bound reaches the claim is withheld and stays charged.
    """

    canaries: Annotated[int, Field(ge=16, le=100_000)] = Field(
        description="Canaries: more can refute larger claims. `palimpsest audit power` says how "
        "many a claim takes. They cost no privacy; each needs 16 parameters of the adapters."
    )
    confidence: Confidence = Field(
        "0.95",
        description="Confidence of the bound: at most this share short of 1 of sound trainings is "
        "withheld.",
    )
    required: bool = Field(
        True,
        description="Refuse a generator whose claim so many canaries could not refute. False: "
        "train and release it, with the audit's verdict NoPower.",
    )


class AuditParameters(ApiModel):
    """What a stage is told: the claim, and how many guesses are made, fixed before the training."""

    canaries: int
    included_guesses: int
    excluded_guesses: int
    epsilon: PositiveDecimal
    delta: DeltaDecimal
    confidence: Confidence


Verdict = Literal["Pending", "Passed", "Failed", "NoPower"]


class AuditResult(AuditParameters):
    """What an audit found; beside a release as audit.json. Anybody can compute the bound again."""

    version: Literal[1] = 1
    method: Literal["one-run/gradient-canaries"] = "one-run/gradient-canaries"
    correct: int = Field(ge=0)
    bound: Bound
    largest_provable: Bound
    verdict: Verdict


class AuditStatus(ApiModel):
    """The audit as the status shows it."""

    claim: PositiveDecimal = Field(description="The epsilon that is put to the test.")
    confidence: Confidence = Field(description="Confidence of the bound.")
    guesses: int = Field(description="Coins that are guessed; on the other canaries it abstains.")
    largest_provable: Bound = Field(
        description="The bound if every guess were right: a larger claim cannot be refuted."
    )
    bound: Bound | None = Field(
        None, description="Lower bound on epsilon that the training gave, at the budget's delta."
    )
    verdict: Verdict = Field(
        description="Passed: the bound is below the claim. Failed: it reaches it, and nothing is "
        "released. NoPower: no bound could have reached it."
    )
