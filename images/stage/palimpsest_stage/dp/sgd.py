"""DP-SGD's step (Abadi et al. 2016) on a matrix of per-example gradients. Pure functions."""

import torch
from torch import Tensor

# Below float32's rounding in the weighted sum, so that rounding cannot carry a record above C.
_MARGIN = 2.0**-20


def clipped_sum(gradients: Tensor, clipping_norm: float) -> Tensor:
    """Sum of the rows (examples, parameters), each scaled to L2 norm at most `clipping_norm`.

    A row with a NaN or an infinity contributes zero. Returns float64 (parameters,).
    """
    norms = torch.linalg.vector_norm(gradients, dim=1, dtype=torch.float64)
    finite = torch.isfinite(norms)
    if not bool(finite.all()):
        gradients = torch.where(finite[:, None], gradients, 0.0)
    weights = torch.clamp(clipping_norm * (1 - _MARGIN) / norms, max=1.0)
    weights = torch.where(finite & (norms > 0), weights, 0.0)
    return (weights.to(gradients.dtype) @ gradients).to(torch.float64)


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
