"""What the noised gradients say about each canary. Post-processing of what the charge pays for."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from palimpsest_stage.dp.noise import SecureGenerator


@dataclass(frozen=True, slots=True)
class Scores:
    """The coins (canaries,), bool, secret until the end, and the evidence (canaries,), float64."""

    included: Tensor
    evidence: Tensor

    @classmethod
    def toss(cls, canaries: int, generator: SecureGenerator) -> "Scores":
        """Before the first step: a fair coin a canary."""
        coins = generator.words(canaries) >> np.uint64(63)
        return cls(
            torch.from_numpy(coins.astype(np.bool_)), torch.zeros(canaries, dtype=torch.float64)
        )

    def present(self, sampled: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the sampled canaries that are in."""
        chosen: NDArray[np.int64] = sampled[self.included.numpy()[sampled]]
        return chosen

    def with_step(self, components: Tensor, rate: float, noise_multiplier: float) -> "Scores":
        """After a step whose noised sum has these components (canaries,), in clipping norms."""
        return Scores(self.included, self.evidence + evidence(components, rate, noise_multiplier))

    def correct(self, included_guesses: int, excluded_guesses: int) -> int:
        """How many are right of the guesses "in" for the highest and "out" for the lowest.

        Ties go by the canaries' numbers, never by coins.
        """
        ranked = torch.argsort(self.evidence, stable=True)
        lowest = ranked[:excluded_guesses]
        highest = ranked[len(ranked) - included_guesses :]
        return int((~self.included[lowest]).sum()) + int(self.included[highest].sum())


def evidence(components: Tensor, rate: float, noise_multiplier: float) -> Tensor:
    """Log-likelihood ratio of each component: that of a canary that is in, over one that is out.

    In, it is sampled with chance `rate` and adds 1. The spread is taken as half of what is
    claimed: a loop with less noise than that is what the audit is to find, and one large component
    says more than many small ones, which records could cause. Any score gives a valid bound.
    """
    gain = (components - 0.5) / (noise_multiplier / 2) ** 2 + math.log(rate)
    absent = math.log1p(-rate) if rate < 1 else -math.inf
    return torch.logaddexp(gain, torch.full_like(gain, absent))
