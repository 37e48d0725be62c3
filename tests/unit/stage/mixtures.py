"""Embeddings from a mixture whose weights are known: what resampling is to restore."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Of a row around its component, in units of the components' own length.
SPREAD = 0.25


@dataclass(frozen=True)
class Mixture:
    """Unit rows around `places` (components, dimension)."""

    places: NDArray[np.float32]

    @classmethod
    def of(cls, components: int, dimension: int, seed: int) -> Mixture:
        drawn = np.random.default_rng(seed).normal(size=(components, dimension))
        unit = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        return cls(unit.astype(np.float32))

    def draw(
        self, weights: NDArray[np.float64], count: int, seed: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(unit rows (count, dimension), the component of each)."""
        random = np.random.default_rng(seed)
        source = random.choice(len(weights), size=count, p=weights)
        rows = random.standard_normal((count, self.places.shape[1]), dtype=np.float32)
        rows *= SPREAD / np.sqrt(self.places.shape[1])
        rows += self.places[source]
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows, source
