"""An artifact's manifest: written last and once, with If-None-Match, beside the files it lists."""

from typing import Literal, Self

from pydantic import Field, model_validator

from .base import ApiModel, Digest
from .task import Input, Parameters, Subject

MANIFEST = "manifest.json"
# Lists the files of a model (path, digest, size); its own digest pins the model.
MODEL_LISTING = "palimpsest-model.json"


class File(ApiModel):
    """A published file; `path` is relative to the artifact's prefix."""

    path: str
    digest: Digest
    size: int


class Manifest(ApiModel):
    """What was published, from which public inputs, paid for by which charge.

    `figures` are what the operator tells of the result; there are none of a charged stage's.
    """

    version: Literal[1] = 1
    subject: Subject
    task: Digest
    parameters: Parameters
    inputs: dict[str, Input]
    files: list[File]
    figures: dict[str, int] = Field(default_factory=dict)
    charge: str | None = None
    attempt: str

    @model_validator(mode="after")
    def _nothing_more_of_private_data(self) -> Self:
        if self.charge is not None and self.figures:
            raise ValueError("figures: a charged stage tells none")
        return self

    def file(self, name: str) -> File:
        """The file whose last path segment is `name`. Raises KeyError if there is none."""
        for file in self.files:
            if file.path.rsplit("/", 1)[-1] == name:
                return file
        raise KeyError(name)
