"""An artifact's manifest: written last and once, with If-None-Match, beside the files it lists."""

from typing import Literal

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
    """What was published, from which public inputs, paid for by which charge."""

    version: Literal[1] = 1
    subject: Subject
    task: Digest
    parameters: Parameters
    inputs: dict[str, Input]
    files: list[File]
    charge: str | None = None
    attempt: str

    def file(self, name: str) -> File:
        """The file whose last path segment is `name`. Raises KeyError if there is none."""
        for file in self.files:
            if file.path.rsplit("/", 1)[-1] == name:
                return file
        raise KeyError(name)
