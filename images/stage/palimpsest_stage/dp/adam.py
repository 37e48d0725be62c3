"""AdamW (Loshchilov and Hutter 2019) as a pure step on flat float64 vectors."""

from dataclasses import dataclass

import torch
from torch import Tensor

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True, slots=True)
class Moments:
    """Running means of the gradient and of its square, and how many went in.

    SGD keeps its velocity in `first` and leaves `second` alone.
    """

    first: Tensor
    second: Tensor
    steps: int

    @classmethod
    def zero(cls, weights: Tensor) -> "Moments":
        """Before the first step on `weights`."""
        zeros = torch.zeros_like(weights, dtype=torch.float64)
        return cls(zeros, zeros.clone(), 0)


def adam_step(
    weights: Tensor,
    moments: Moments,
    gradient: Tensor,
    learning_rate: float,
    weight_decay: float = 0.0,
) -> tuple[Tensor, Moments]:
    """(new weights, new moments); weights keep their type. Without decay it is Adam."""
    steps = moments.steps + 1
    first = _BETA1 * moments.first + (1 - _BETA1) * gradient
    second = _BETA2 * moments.second + (1 - _BETA2) * gradient.square()
    scale = (second / (1 - _BETA2**steps)).sqrt() + _EPSILON
    update = learning_rate * ((first / (1 - _BETA1**steps)) / scale + weight_decay * weights)
    return (weights - update).to(weights.dtype), Moments(first, second, steps)
