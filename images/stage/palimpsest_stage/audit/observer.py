"""The audit as the training loop meets it: rows beside the records', and eyes on the noised mean.

It never sees a sum before the noise.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from palimpsest.api.audit import AuditParameters
from palimpsest.api.task import TrainParameters
from torch import Tensor

from palimpsest_stage.audit.canaries import Canaries
from palimpsest_stage.audit.scores import Scores
from palimpsest_stage.dp.noise import SecureGenerator


@dataclass(frozen=True)
class Observer:
    """One training's canaries and public settings."""

    canaries: Canaries
    settings: TrainParameters

    @classmethod
    def of(
        cls, settings: TrainParameters, audit: AuditParameters, parameters: int, seed: int
    ) -> "Observer":
        """For adapters of so many parameters. Raises ModelUnsuitable if those are too few."""
        norm = float(settings.clipping_norm)
        return cls(Canaries(audit.canaries, parameters, norm, seed), settings)

    def rows(self, scores: Scores, step: int, generator: SecureGenerator) -> Iterator[Tensor]:
        """Gradients (at most a micro-batch, parameters) of the canaries that this step samples.

        One that is in is sampled as a record is: at the same rate, by the same generator.
        """
        settings = self.settings
        sampled = generator.poisson_sample(
            self.canaries.count, settings.expected_batch_size, settings.records
        )
        return self.canaries.rows(step, scores.present(sampled), settings.micro_batch_size)

    def observed(self, scores: Scores, step: int, noisy_mean: Tensor) -> Scores:
        """The scores after a step's noised mean gradient (parameters,)."""
        settings = self.settings
        unit = float(settings.clipping_norm) / settings.expected_batch_size
        return scores.with_step(
            self.canaries.along(step, noisy_mean) / unit,
            min(1.0, settings.expected_batch_size / settings.records),
            float(settings.noise_multiplier),
        )
