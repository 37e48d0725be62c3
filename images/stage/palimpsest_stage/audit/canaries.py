"""Public canaries: gradients as no record has them, known to everybody but for the coins."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from palimpsest_stage.errors import ModelUnsuitable

# Before clipping, in clipping norms: a loop that clips anything but each row lets that through.
LOUDNESS = 1024.0
_LEAST_WIDTH = 16


@dataclass(frozen=True)
class Canaries:
    """`count` gradients (parameters,), pairwise orthogonal, made anew for every step.

    Canary i has random signs on every `count`-th coordinate from the i-th on, and zero elsewhere.
    Signs differ from step to step: what the records' gradients have in common over the steps then
    does not add up along a canary. Raises ModelUnsuitable where there are too few parameters.
    """

    count: int
    parameters: int
    clipping_norm: float
    seed: int

    def __post_init__(self) -> None:
        if self.width < _LEAST_WIDTH:
            raise ModelUnsuitable(
                f"{self.parameters} parameters are too few for {self.count} canaries"
            )

    @property
    def width(self) -> int:
        """Coordinates of one canary."""
        return self.parameters // self.count

    def rows(self, step: int, chosen: NDArray[np.int64], size: int) -> Iterator[Tensor]:
        """The chosen canaries' raw gradients (at most `size` rows, parameters), float32."""
        if not len(chosen):
            return
        loud = self._signs(step) * (LOUDNESS * self.clipping_norm / sqrt(self.width))
        for first in range(0, len(chosen), size):
            some = chosen[first : first + size]
            rows = torch.zeros(len(some), self.parameters)
            for row, canary in zip(rows, some.tolist(), strict=True):
                row[canary :: self.count][: self.width] = loud[:, canary]
            yield rows

    def along(self, step: int, gradient: Tensor) -> Tensor:
        """The gradient's (parameters,) component along each canary (count,), float64."""
        blocks = gradient[: self.width * self.count].view(self.width, self.count)
        return (blocks.double() * self._signs(step)).sum(0) / sqrt(self.width)

    def _signs(self, step: int) -> Tensor:
        """(width, count) of +1 and -1, from the public seed and the step alone."""
        size = self.width * self.count
        stream = hashlib.shake_256(f"{self.seed}/{step}".encode()).digest((size + 7) // 8)
        bits = np.unpackbits(np.frombuffer(stream, dtype=np.uint8), count=size)
        return torch.from_numpy(bits.astype(np.float32) * 2 - 1).view(self.width, self.count)
