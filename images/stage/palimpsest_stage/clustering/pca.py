"""Principal components of rows too many to copy."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Rows at a time: sums within are float32, over all of them float64.
_BLOCK = 1 << 13


class Projection(NamedTuple):
    """Where a row goes: components (kept, dimension), orthonormal, times (row - mean)."""

    mean: NDArray[np.float32]
    components: NDArray[np.float32]


def principal(rows: NDArray[np.float32], share: float) -> Projection:
    """The fewest components that explain `share` of the variance of rows (n, dimension).

    One at least, also where rows do not vary.
    """
    dimension = rows.shape[1]
    mean = rows.mean(0, dtype=np.float64)
    scatter = np.zeros((dimension, dimension))
    for first in range(0, len(rows), _BLOCK):
        centred = rows[first : first + _BLOCK] - mean.astype(np.float32)
        scatter += centred.T @ centred
    values, vectors = np.linalg.eigh(scatter)
    # Rounding leaves small negative ones.
    explained = np.maximum(values[::-1], 0.0).cumsum()
    kept = int((explained < share * explained[-1]).sum()) + 1
    components = np.ascontiguousarray(vectors[:, ::-1][:, :kept].T, dtype=np.float32)
    return Projection(mean.astype(np.float32), components)


def project_in_place(rows: NDArray[np.float32], onto: Projection) -> None:
    """Make rows (n, dimension) their projections (n, kept), and give back what memory they leave.

    Nothing else may look into it. Raises ValueError if the memory is not the array's own.
    """
    count, kept = len(rows), len(onto.components)
    flat = rows.reshape(-1)
    for first in range(0, count, _BLOCK):
        last = min(first + _BLOCK, count)
        made = (rows[first:last] - onto.mean) @ onto.components.T
        # What is overwritten was read: a row's new place never lies behind its old one.
        flat[first * kept : last * kept] = made.reshape(-1)
    del flat
    rows.resize((count, kept), refcheck=False)
