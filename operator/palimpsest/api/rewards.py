"""What tells a better answer from a worse one: a reward model, or a formula for trying out."""

from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from .base import ApiModel
from .common import rule
from .models import PublicModel

BuiltIn = Literal["Informative", "OnTopic"]

_EITHER = "takes either model or builtIn"


class Reward(ApiModel):
    """A number for an answer to an instruction; higher is better."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [rule("has(self.model) != has(self.builtIn)", _EITHER)]
        }
    )

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

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.model is None) == (self.built_in is None):
            raise ValueError(_EITHER)
        return self
