"""Resampling of a mixture whose weights are known, through the stages' own functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import pi, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from palimpsest_stage.cluster import partitioned
from palimpsest_stage.clustering.partition import Partition
from palimpsest_stage.dp.noise import discrete_gaussian
from palimpsest_stage.select import apportion, draw, fill
from unit.stage.mixtures import Mixture


def apart(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Total-variation distance of two distributions."""
    return float(np.abs(one - other).sum() / 2)


def zipf(components: int, seed: int) -> NDArray[np.float64]:
    """Weights as 1 / rank^0.8, in an order of the seed's."""
    drawn = 1 / np.arange(1, components + 1) ** 0.8
    shuffled: NDArray[np.float64] = np.random.default_rng(seed).permutation(drawn / drawn.sum())
    return shuffled


@dataclass(frozen=True)
class Clustered:
    """A pool in clusters, and the private records' votes for them."""

    partition: Partition
    cluster_of: NDArray[np.int64]
    votes: NDArray[np.int64]

    @classmethod
    def from_points(
        cls, points: NDArray[np.float32], private: NDArray[np.float32], clusters: int, seed: int
    ) -> Clustered:
        """Of embeddings (rows, dimension); `points` become projections."""
        partition, cluster_of = partitioned(points, clusters, seed)
        nearest = partition.nearest(torch.from_numpy(private)).numpy()
        return cls(partition, cluster_of, np.bincount(nearest, minlength=clusters))

    def chosen(self, counts: Sequence[int], size: int, seed: int) -> list[int]:
        """What is selected of the pool by these counts."""
        available = np.bincount(self.cluster_of, minlength=len(counts))
        taken = fill(apportion(size, counts), available, self.partition.centroids.numpy())
        return draw(self.cluster_of, taken, np.random.default_rng(seed))

    def noisy(self, sigma: int) -> list[int]:
        """The votes with noise as the histogram stage adds it."""
        return [int(votes) + discrete_gaussian(Fraction(sigma)) for votes in self.votes]

    def permuted(self) -> list[int]:
        """The right counts at wrong clusters."""
        return [int(count) for count in np.random.default_rng(9).permutation(self.votes)]


@dataclass(frozen=True)
class Resampled:
    """A pool of other weights than the private records', all known."""

    real: NDArray[np.float64]
    source: NDArray[np.int64]
    clustered: Clustered
    records: int

    @classmethod
    def of(
        cls, records: int, clusters: int, pool: int, components: int = 20, dimension: int = 64
    ) -> Resampled:
        mixture = Mixture.of(components, dimension, seed=1)
        real = zipf(components, seed=3)
        points, source = mixture.draw(zipf(components, seed=4), pool, seed=5)
        private, _ = mixture.draw(real, records, seed=6)
        return cls(real, source, Clustered.from_points(points, private, clusters, 7), records)

    @property
    def before(self) -> float:
        """The pool's distance to the real weights."""
        return apart(self._weights(np.arange(len(self.source))), self.real)

    def after(self, counts: Sequence[int], size: int, seed: int = 0) -> float:
        """The distance of what is selected by these counts."""
        chosen = self.clustered.chosen(counts, size, seed)
        return apart(self._weights(np.array(chosen)), self.real)

    def floor(self, sigma: int) -> float:
        """What is left if nothing but chance is: the records' own draw, and the noise.

        A component's share errs by a normal deviate of variance p (1 - p) / N for the draw and
        k sigma^2 / N^2 for the noise on its k clusters; half the sum of their mean absolute values.
        """
        components, clusters = len(self.real), len(self.clustered.votes)
        table = np.zeros((clusters, components))
        np.add.at(table, (self.clustered.cluster_of, self.source), 1)
        held = np.bincount(table.argmax(1), minlength=components)
        drawn = self.real * (1 - self.real) / self.records
        variance = drawn + held * sigma**2 / self.records**2
        return float(np.sqrt(variance).sum() * sqrt(2 / pi) / 2)

    def _weights(self, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        counts = np.bincount(self.source[chosen], minlength=len(self.real))
        return counts / len(chosen)
