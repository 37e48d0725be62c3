"""Models that stages outside custody run: from a store, a hub or a claim, pinned by digest."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from .base import PREFIX, ApiModel, Digest, ObjectName, said
from .common import Storage, rule

_HUB = r"^hf://[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$"
_CLAIM = r"^pvc://[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/([A-Za-z0-9_=+-][A-Za-z0-9._=+-]*/)*$"
_URI = f"({PREFIX}|{_HUB}|{_CLAIM})"
_COMMIT = r"^[0-9a-f]{40}$"

ModelUri = Annotated[
    str,
    StringConstraints(pattern=_URI, max_length=512),
    said(
        _URI,
        "must be s3://bucket/prefix/, hf://organisation/name or pvc://claim/path/ (a slash ends "
        "the first and the last)",
    ),
]
Commit = Annotated[
    str,
    StringConstraints(pattern=_COMMIT, max_length=40),
    said(_COMMIT, "must be a commit, 40 lower-case hexadecimal digits; branches and tags move"),
]

_REVISION = "revision goes with hf://, and hf:// with it: the commit to fetch"
_STORAGE = "storage goes with s3:// only: it is where the model lies, if not beside the output"
_TOKEN = "tokenSecretName goes with hf:// only"  # noqa: S105 - what is said of the field


class PublicModel(ApiModel):
    """A model for a stage outside custody, pinned by the digest of its files."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule("has(self.revision) == self.uri.startsWith('hf://')", _REVISION),
                rule("!has(self.storage) || self.uri.startsWith('s3://')", _STORAGE),
                rule("!has(self.tokenSecretName) || self.uri.startsWith('hf://')", _TOKEN),
            ]
        }
    )

    uri: ModelUri = Field(
        description="s3://bucket/prefix/ of a store, as `palimpsest model push` says; "
        "hf://organisation/name of the hub that the chart's value hub.endpoint names "
        "(huggingface.co); pvc://claim/path/ on a PersistentVolumeClaim of this namespace, which "
        "is mounted read-only."
    )
    revision: Commit | None = Field(None, description="With hf://: the commit to fetch.")
    digest: Digest = Field(
        description="What `palimpsest model push` or `palimpsest model digest` says of the "
        "model's folder; every file is checked against it. Only safetensors are loaded, and no "
        "code of the model's is ever run."
    )
    chat_template: Annotated[str, StringConstraints(min_length=1, max_length=16384)] | None = Field(
        None,
        description="Chat template (Jinja, as in transformers) in place of the tokenizer's own.",
    )
    storage: Storage | None = Field(
        None, description="With s3://: the store that holds it; left out: the output's."
    )
    token_secret_name: ObjectName | None = Field(
        None, description="With hf://: Secret of this namespace whose key HF_TOKEN enters the hub."
    )

    @property
    def scheme(self) -> str:
        """`s3`, `hf` or `pvc`."""
        return self.uri.partition("://")[0]

    @model_validator(mode="after")
    def _fields_fit_scheme(self) -> Self:
        if (self.revision is not None) != (self.scheme == "hf"):
            raise ValueError(_REVISION)
        if self.storage is not None and self.scheme != "s3":
            raise ValueError(_STORAGE)
        if self.token_secret_name is not None and self.scheme != "hf":
            raise ValueError(_TOKEN)
        return self
