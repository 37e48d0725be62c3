"""Optimizers and learning rates, against torch's and transformers' own."""

from collections.abc import Callable

import pytest
import torch
from palimpsest.api.generator import Optimizer, Schedule
from palimpsest_stage.dp.adam import Moments
from palimpsest_stage.dp.optimizer import optimizer_step, rate_share
from torch import Tensor

Torch = Callable[[list[Tensor]], torch.optim.Optimizer]
RATE = 0.01
CASES: dict[str, tuple[Optimizer, Torch]] = {
    "Adam": (Optimizer(), lambda p: torch.optim.Adam(p, lr=RATE)),
    "AdamW": (
        Optimizer(weight_decay="0.1"),
        lambda p: torch.optim.AdamW(p, RATE, weight_decay=0.1),
    ),
    "SGD": (Optimizer(type="SGD"), lambda p: torch.optim.SGD(p, RATE)),
    # Without momentum decoupled decay is the usual one.
    "SGD with decay": (
        Optimizer(type="SGD", weight_decay="0.1"),
        lambda p: torch.optim.SGD(p, RATE, weight_decay=0.1),
    ),
    "SGD with momentum": (
        Optimizer(type="SGD", momentum="0.9"),
        lambda p: torch.optim.SGD(p, RATE, momentum=0.9),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_steps_are_torchs(name: str) -> None:
    optimizer, make = CASES[name]
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(20, dtype=torch.float64, generator=generator)
    leaf = weights.clone().requires_grad_()
    theirs = make([leaf])
    moments = Moments.zero(torch.zeros(20))
    for _ in range(5):
        gradient = torch.randn(20, dtype=torch.float64, generator=generator)
        weights, moments = optimizer_step(optimizer, weights, moments, gradient, RATE)
        leaf.grad = gradient.clone()
        theirs.step()
    assert moments.steps == 5
    assert torch.allclose(weights, leaf.detach(), rtol=1e-10)


def test_weights_keep_their_type() -> None:
    gradient = torch.ones(3, dtype=torch.float64)
    for optimizer in (Optimizer(), Optimizer(type="SGD")):
        weights, _ = optimizer_step(
            optimizer, torch.zeros(3), Moments.zero(torch.zeros(3)), gradient, RATE
        )
        assert weights.dtype == torch.float32


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        (Schedule(), [1, 1, 1, 1]),
        (Schedule(warmup_steps=3), [0.25, 0.5, 0.75, 1]),
        (Schedule(type="Linear"), [1, 0.75, 0.5, 0.25]),
        (Schedule(type="Linear", warmup_steps=1), [0.5, 1, 2 / 3, 1 / 3]),
        (Schedule(type="Cosine"), [1, 0.853553, 0.5, 0.146447]),
        (Schedule(type="Cosine", warmup_steps=9), [0.1, 0.2, 0.3, 0.4]),
    ],
)
def test_the_learning_rate_over_four_steps(schedule: Schedule, shares: list[float]) -> None:
    assert [rate_share(schedule, done, 4) for done in range(4)] == pytest.approx(shares, abs=1e-6)
