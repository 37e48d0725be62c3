"""What a pod has too little of for a model, in numbers: whoever tells it makes the sentence."""

import math
from typing import Annotated, Literal

from pydantic import Field

from .base import ApiModel

# What the API server takes is smaller than what JSON can say.
_Count = Annotated[int, Field(ge=0, le=2**53)]
_GIB = 2**30

_REMEDIES = {
    "Memory": "raise resources.limits.memory of {compute} to {least}Gi or more, on a node "
    "that has as much",
    "GPUMemory": "give {compute} a GPU of {least} GiB or more",
    "Scratch": "raise scratch of {compute} to {least}Gi or more",
}
_NAMES = {"Memory": "memory", "GPUMemory": "memory of a GPU", "Scratch": "scratch space"}


class Shortage(ApiModel):
    """Told beside the outcome, by stages outside custody alone.

    `model` is the input's name and `parameters` how many it has, where that was asked.
    """

    what: Literal["Memory", "GPUMemory", "Scratch"]
    model: Literal["base", "model", "reward", "judge", "embedder"] | None = None
    parameters: _Count | None = None
    needs: _Count
    has: _Count

    def told(self, compute: str = "spec.compute") -> str:
        """For people; `compute` is the field that gives the pod what it has."""
        model = f"The {self.model} model" if self.model not in (None, "model") else "The model"
        counted = f" of {self.parameters:,} parameters" if self.parameters is not None else ""
        remedy = _REMEDIES[self.what].format(compute=compute, least=math.ceil(self.needs / _GIB))
        return (
            f"{model}{counted} needs at least {_gibibytes(self.needs)} of {_NAMES[self.what]}, "
            f"the pod has {_gibibytes(self.has)}: {remedy}."
        )


def _gibibytes(count: int) -> str:
    return f"{count / _GIB:,.2f} GiB"
