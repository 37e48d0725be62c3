"""Servers that speak OpenAI's protocol (chat completions), and how they are asked."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from .base import ApiModel, ObjectName, said
from .common import CaBundle, rule

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

_PATIENCE = "patienceSeconds must be at least timeoutSeconds: one request may take that long"


class ChatEndpoint(ApiModel):
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
        "https://api.example.com/v1. What it is asked about is sent there, and leaves the cluster "
        "if the server is outside: it is synthetic, or public. Redirects are not followed.",
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

    @model_validator(mode="after")
    def _a_request_fits(self) -> Self:
        if self.timeout_seconds > self.patience_seconds:
            raise ValueError(_PATIENCE)
        return self
