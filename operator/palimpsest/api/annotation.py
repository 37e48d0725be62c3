"""What answers a data set's instructions: a model, an endpoint, or people."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from .base import ApiModel, Digest, ObjectName, ObjectUri, PositiveDecimal, UnitDecimal, said
from .common import CaBundle, rule
from .models import PublicModel

_BASE_URL = r"^https?://[A-Za-z0-9._:\[\]-]+(/[A-Za-z0-9._~%-]+)*/?$"

BaseUrl = Annotated[
    str,
    StringConstraints(pattern=_BASE_URL, max_length=253),
    said(
        _BASE_URL,
        "must be http:// or https://, host, port and path, without a user, a key or a query, for "
        "example https://api.example.com/v1",
    ),
]

_MODEL = r"^[!-~]+$"

ModelName = Annotated[
    str,
    StringConstraints(pattern=_MODEL, max_length=253),
    said(_MODEL, "must be the endpoint's name of a model, without spaces"),
]

_ONE = "annotation takes exactly one of model, endpoint and human: what answers the instructions"
_PATIENCE = "patienceSeconds must be at least timeoutSeconds: one request may take that long"


class TokenPrices(ApiModel):
    """What a million tokens costs, in a currency of yours. For the report alone."""

    input: PositiveDecimal = Field(description="Of the instructions and the system prompt.")
    output: PositiveDecimal = Field(description="Of the answers.")


class AnnotationEndpoint(ApiModel):
    """A server that speaks OpenAI's protocol (chat completions), in the cluster or outside."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule("self.timeoutSeconds <= self.patienceSeconds", _PATIENCE)
            ]
        }
    )

    base_url: BaseUrl = Field(
        alias="baseURL",
        description="What /chat/completions is appended to, for example "
        "https://api.example.com/v1. The instructions are sent there: they are synthetic, and "
        "leave the cluster if the server is outside. Redirects are not followed.",
    )
    model: ModelName = Field(
        description="The model's name at the endpoint, which pins no version: the server decides."
    )
    secret_name: ObjectName | None = Field(
        None,
        description="Secret of this namespace whose key API_KEY is shown to the endpoint; left "
        "out: none is.",
    )
    ca_bundle: CaBundle | None = Field(
        None,
        description="Certificates (PEM) of the authorities that the endpoint's is checked "
        "against; left out: the public ones.",
    )
    concurrency: Annotated[int, Field(ge=1, le=256)] = Field(
        8, description="Requests under way at once."
    )
    requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="Requests begun in a minute at most; left out: no limit of ours."
    )
    timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        120, description="How long one request may take, to the last byte of its answer."
    )
    patience_seconds: Annotated[int, Field(ge=1, le=86400)] = Field(
        900,
        description="How long requests are repeated while none succeeds; then the attempt ends, "
        "keeps what was answered, and the condition says what was seen.",
    )
    prices: TokenPrices | None = Field(
        None, description="For the cost in annotation.json; left out: none is told."
    )

    @model_validator(mode="after")
    def _a_request_fits(self) -> Self:
        if self.timeout_seconds > self.patience_seconds:
            raise ValueError(_PATIENCE)
        return self


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
