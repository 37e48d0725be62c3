"""The optimizer's step and its learning rate: public functions of what was released.

Post-processing of the noisy gradients, so no choice here costs privacy.
"""

import math

from palimpsest.api.generator import Optimizer, Schedule
from torch import Tensor

from palimpsest_stage.dp.adam import Moments, adam_step


def optimizer_step(
    optimizer: Optimizer, weights: Tensor, moments: Moments, gradient: Tensor, learning_rate: float
) -> tuple[Tensor, Moments]:
    """(new weights, new moments) by the optimizer that was asked for; weights keep their type."""
    decay = float(optimizer.weight_decay)
    if optimizer.type == "SGD":
        momentum = float(optimizer.momentum)
        return sgd_step(weights, moments, gradient, learning_rate, momentum, decay)
    return adam_step(weights, moments, gradient, learning_rate, decay)


def sgd_step(
    weights: Tensor,
    moments: Moments,
    gradient: Tensor,
    learning_rate: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> tuple[Tensor, Moments]:
    """SGD with Polyak's momentum and decoupled weight decay, in torch's form."""
    velocity = momentum * moments.first + gradient
    update = learning_rate * (velocity + weight_decay * weights)
    return (weights - update).to(weights.dtype), Moments(
        velocity, moments.second, moments.steps + 1
    )


def rate_share(schedule: Schedule, done: int, steps: int) -> float:
    """Part of the learning rate to take after `done` of `steps` steps, in (0, 1]."""
    warmup = schedule.warmup_steps
    if done < warmup:
        return (done + 1) / (warmup + 1)
    gone = (done - warmup) / max(1, steps - warmup)
    if schedule.type == "Linear":
        return 1.0 - gone
    if schedule.type == "Cosine":
        return 0.5 * (1.0 + math.cos(math.pi * gone))
    return 1.0
