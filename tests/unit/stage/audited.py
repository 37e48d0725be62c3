"""Audited trainings of a tiny model with the stage's own code, and loops that are broken."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from palimpsest.api.audit import AuditParameters, AuditResult
from palimpsest.api.generator import Lora
from palimpsest.api.task import TrainParameters
from palimpsest.privacy.audits import judge
from palimpsest.privacy.calibration import calibrate_noise
from palimpsest_stage import train
from palimpsest_stage.audit.observer import Observer
from palimpsest_stage.dp.noise import SecureGenerator
from palimpsest_stage.dp.sgd import clipped_sum, noisy_mean
from palimpsest_stage.lora import Adapters
from torch import Tensor
from unit.stage.tiny import LAYOUT, examples, tiny_model

DELTA, CONFIDENCE = "1e-5", "0.95"
# Every canary that is in shows in one of the steps with chance 0.998.
BATCH, RECORDS, STEPS, EXAMPLES = 64, 1280, 120, 20
# A sound loop without noise shows at least 99 of 300 canaries, all but surely: 150 are in, give or
# take 5.8 standard deviations (2.5e-9).
CANARIES, GUESSES = 300, 100


def settings(claim: str, guesses: int = GUESSES) -> TrainParameters:
    """A training calibrated to the claim, with an audit of it."""
    return TrainParameters(
        prompt="Q:",
        lora=Lora(rank=16, alpha=16),
        records=RECORDS,
        expected_batch_size=BATCH,
        micro_batch_size=2,
        steps=STEPS,
        block_steps=STEPS,
        restarts=0,
        learning_rate="0.01",
        clipping_norm="0.5",
        noise_multiplier=calibrate_noise(claim, DELTA, RECORDS, BATCH, STEPS),
        max_length=LAYOUT.max_length,
        precision="float32",
        audit=AuditParameters(
            canaries=CANARIES,
            included_guesses=guesses,
            excluded_guesses=0,
            epsilon=claim,
            delta=DELTA,
            confidence=CONFIDENCE,
        ),
    )


def trainer(parameters: TrainParameters) -> train.Trainer:
    """32,768 parameters of adapters: 109 for each of 300 canaries."""
    model = tiny_model(layers=2, hidden=64)
    torch.manual_seed(1)
    adapters = Adapters(model, parameters.lora)
    observer = None
    if parameters.audit:
        observer = Observer.of(parameters, parameters.audit, adapters.size, seed=7)
    return train.Trainer(model, adapters, LAYOUT, parameters, SecureGenerator(), observer)


def audit(parameters: TrainParameters) -> AuditResult:
    """What the audit of a whole training says."""
    one, rows = trainer(parameters), examples(EXAMPLES)
    state = one.initial()
    for _ in range(parameters.steps):
        state, _ = one.step(state, rows)
    asked = parameters.audit
    assert asked is not None
    assert state.audit is not None
    return judge(asked, state.audit.correct(asked.included_guesses, asked.excluded_guesses))


@dataclass(frozen=True)
class Loop:
    """Arithmetic in place of the stage's own."""

    name: str
    clipped_sum: Callable[[Tensor, float], Tensor] = clipped_sum
    noisy_mean: Callable[[Tensor, Tensor, float, float, int], Tensor] = noisy_mean

    @contextmanager
    def run(self) -> Iterator[None]:
        """The stage's loop with this arithmetic."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train, "clipped_sum", self.clipped_sum)
            patch.setattr(train, "noisy_mean", self.noisy_mean)
            yield


def _without_noise(total: Tensor, normals: Tensor, sigma: float, norm: float, size: int) -> Tensor:
    return noisy_mean(total, torch.zeros_like(normals), sigma, norm, size)


def _plain_sum(gradients: Tensor, norm: float) -> Tensor:
    return gradients.double().sum(0)


def _clipped_mean(total: Tensor, normals: Tensor, sigma: float, norm: float, size: int) -> Tensor:
    mean = total / size
    mean = mean * min(1.0, norm / max(float(mean.norm()), 1e-300))
    return mean + sigma * norm / size * normals


def _noise_of_the_mean(
    total: Tensor, normals: Tensor, sigma: float, norm: float, size: int
) -> Tensor:
    return total / size + sigma * norm / size**2 * normals


RIGHT = Loop("as it is")
NO_NOISE = Loop("no noise", noisy_mean=_without_noise)
MEAN_CLIPPED = Loop("the batch's mean clipped to C, noise sigma C / B", _plain_sum, _clipped_mean)
TWICE_DIVIDED = Loop("noise divided by the batch twice", noisy_mean=_noise_of_the_mean)
UNCLIPPED = Loop("no clipping", _plain_sum)
BROKEN = (NO_NOISE, MEAN_CLIPPED, TWICE_DIVIDED, UNCLIPPED)


def less_noise(name: str, share: float) -> Loop:
    """A share of the noise that is claimed."""

    def mean(total: Tensor, normals: Tensor, sigma: float, norm: float, size: int) -> Tensor:
        return noisy_mean(total, share * normals, sigma, norm, size)

    return Loop(name, noisy_mean=mean)


def reused_noise() -> Loop:
    """The first step's noise in every step."""
    kept: list[Tensor] = []

    def mean(total: Tensor, normals: Tensor, sigma: float, norm: float, size: int) -> Tensor:
        kept.append(normals)
        return noisy_mean(total, kept[0], sigma, norm, size)

    return Loop("the same noise in every step", noisy_mean=mean)


def noised_gradients(loop: Loop, parameters: TrainParameters, steps: int) -> list[Tensor]:
    """What each step of the loop adds to the optimizer, records and all."""
    seen: list[Tensor] = []

    def watched(total: Tensor, normals: Tensor, sigma: float, norm: float, size: int) -> Tensor:
        seen.append(loop.noisy_mean(total, normals, sigma, norm, size))
        return seen[-1]

    one, rows = trainer(parameters), examples(EXAMPLES)
    state = one.initial()
    with Loop(loop.name, loop.clipped_sum, watched).run():
        for _ in range(steps):
            state, _ = one.step(state, rows)
    return seen


def shortfall_of_differences(gradients: list[Tensor], parameters: TrainParameters) -> float:
    """By how many standard deviations the two most alike of the noised gradients are too alike.

    With noise of their own, two differ by 2 (sigma C / B)^2 times chi-squared in squared norm, and
    what the records and canaries add makes it only larger.
    """
    unit = float(parameters.noise_multiplier) * float(parameters.clipping_norm) / BATCH
    size = len(gradients[0])
    least = min(
        float((one - other).square().sum())
        for index, one in enumerate(gradients)
        for other in gradients[:index]
    )
    return (size - least / (2 * unit**2)) / math.sqrt(2 * size)
