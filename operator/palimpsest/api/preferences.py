"""Pairs of answers that somebody ranked."""

from pydantic import Field

from .base import ApiModel, Digest, ObjectUri


class Preferences(ApiModel):
    """Pairs of answers, ranked already."""

    uri: ObjectUri = Field(
        description="JSONL in the output's store: `instruction`, `chosen`, `rejected`; never made "
        "from private data."
    )
    digest: Digest = Field(description="SHA-256 of that file.")
