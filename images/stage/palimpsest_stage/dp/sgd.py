"""DP-SGD's step (Abadi et al. 2016) on a matrix of per-example gradients. Pure functions."""

import torch
from torch import Tensor

# Squares are added in float32 this many at a time and in float64 from there on, which no longer
# rounds: the norm is then wrong by less than _RUN * 2^-25, even if the run is added one by one.
_RUN = 128
# Covers that, so that rounding cannot carry a record above C.
_MARGIN = 2.0**-18


def clipped_sum(gradients: Tensor, clipping_norm: float) -> Tensor:
    """Sum of the rows (examples, parameters), each scaled to L2 norm at most `clipping_norm`.

    A row with a NaN or an infinity contributes zero. Rows are added in float64, returned as
    (parameters,): in float32 who else is in the sum would move a row's part by rounding.
    """
    norms = _norms(gradients)
    weights = torch.clamp(clipping_norm * (1 - _MARGIN) / norms, max=1.0)
    weights = torch.where(torch.isfinite(norms), weights, 0.0)
    total = gradients.new_zeros(gradients.shape[1], dtype=torch.float64)
    for row, weight in zip(gradients, weights.tolist(), strict=True):
        if weight > 0:
            total.add_(row, alpha=weight)
    return total


def unusable(gradients: Tensor) -> int:
    """How many rows `clipped_sum` leaves out."""
    return int((~torch.isfinite(_norms(gradients))).sum())


def _norms(rows: Tensor) -> Tensor:
    """L2 norms (examples,), float64; infinite or NaN if an entry is, or if its square is."""
    runs = rows.shape[1] // _RUN
    whole, rest = rows[:, : runs * _RUN], rows[:, runs * _RUN :]
    norms = torch.linalg.vector_norm(whole.view(len(rows), runs, _RUN), dim=2)
    squares = norms.double().square().sum(1) + rest.double().square().sum(1)
    return torch.sqrt(squares)


def noisy_mean(
    total: Tensor,
    normals: Tensor,
    noise_multiplier: float,
    clipping_norm: float,
    expected_batch_size: int,
) -> Tensor:
    """The released gradient: (total + sigma C z) / expected batch size, float64 (parameters,).

    The divisor is the expected size: the realised one depends on who is in the data.
    """
    return (total + noise_multiplier * clipping_norm * normals) / expected_batch_size
