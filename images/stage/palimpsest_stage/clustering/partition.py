"""Which region of embedding space a row lies in: the nearest centroid after a projection."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from palimpsest_stage.errors import InputMismatch


@dataclass(frozen=True)
class Partition:
    """mean (dimension,), components (kept, dimension), centroids (clusters, kept); float32."""

    mean: Tensor
    components: Tensor
    centroids: Tensor

    def __len__(self) -> int:
        return len(self.centroids)

    @cached_property
    def _scores(self) -> tuple[Tensor, Tensor]:
        """Directions (dimension, clusters) and offsets (clusters,) of a row's affine scores.

        |P (x - m) - c|^2 = |P (x - m)|^2 - 2 (x . P'c - m . P'c - |c|^2 / 2), and the first term is
        all centroids' alike: P (x - m) itself is never needed.
        """
        directions = (self.centroids.double() @ self.components.double()).T
        offsets = -(self.mean.double() @ directions) - self.centroids.double().square().sum(1) / 2
        return directions.float(), offsets.float()

    def nearest(self, rows: Tensor) -> Tensor:
        """Numbers (n,) of the nearest centroids of embeddings (n, dimension)."""
        directions, offsets = self._scores
        return (rows @ directions + offsets).argmax(1)

    def save(self, path: Path) -> Path:
        """Write it as safetensors; returns the path."""
        tensors = {"mean": self.mean, "components": self.components, "centroids": self.centroids}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
        return path

    @classmethod
    def load(cls, path: Path, dimension: int) -> "Partition":
        """Of embeddings of this dimension. Raises InputMismatch."""
        try:
            tensors = load_file(path)
            made = cls(tensors["mean"], tensors["components"], tensors["centroids"])
        except (SafetensorError, KeyError) as error:
            raise InputMismatch("centroids: not a file of the cluster stage") from error
        if any(tensor.dtype != torch.float32 for tensor in tensors.values()):
            raise InputMismatch("centroids: float32 is needed")
        kept = made.components.shape[0]
        if not len(made):
            raise InputMismatch("centroids: there are none")
        shapes = (made.mean.shape, made.components.shape, made.centroids.shape[1:])
        if shapes != ((dimension,), (kept, dimension), (kept,)):
            raise InputMismatch("centroids: made with another embedder")
        return made
