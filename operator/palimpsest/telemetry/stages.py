"""Stages: attempts, how they ended, how long they took. The operator tells, from Jobs and statuses
that it reads anyway: a stage's pod may be gone before anybody scrapes it.
"""

import math

from palimpsest.api.outcomes import Outcome
from palimpsest.api.task import PRIVATE_STAGES

from .catalogue import STAGES, counter, histogram, start_at_zero

# What `stages.why` says of a Job that failed.
REASONS = (*(outcome.value for outcome in Outcome), "Disrupted", "StageFailed")
_OUTCOMES = ("Succeeded", "Failed")
_HOUR, _DAY = 3600.0, 86400.0
BOUNDS = (60.0, 300.0, 900.0, _HOUR, 4 * _HOUR, 12 * _HOUR, _DAY, 3 * _DAY)

_ATTEMPTS = counter(
    "palimpsest_stage_attempts_total",
    "Jobs",
    "Jobs made for stages: first attempts and further ones.",
    {"stage": STAGES},
)
_FAILURES = counter(
    "palimpsest_stage_failures_total",
    "Jobs",
    "Attempts that failed, by reason (docs/conditions.md).",
    {"stage": STAGES, "reason": REASONS},
)
_SECONDS = histogram(
    "palimpsest_stage_duration_seconds",
    "How long an attempt took, from its Job's start to its end. What a private stage (train, "
    "histogram) took is rounded up to a bucket's bound, in the sum too: time is outside the "
    "formal guarantee (docs/threat-model.md).",
    {"stage": STAGES, "outcome": _OUTCOMES},
    BOUNDS,
)

start_at_zero(_ATTEMPTS, STAGES)
start_at_zero(_FAILURES, STAGES, REASONS)
start_at_zero(_SECONDS, STAGES, _OUTCOMES)


def attempted(stage: str) -> None:
    """A Job was made."""
    _ATTEMPTS.labels(stage).inc()


def succeeded(stage: str, seconds: float) -> None:
    """An attempt published its artifact."""
    _SECONDS.labels(stage, "Succeeded").observe(coarse(stage, seconds))


def failed(stage: str, reason: str, seconds: float | None) -> None:
    """An attempt ended without one; None: nobody knows how long it took."""
    _FAILURES.labels(stage, reason).inc()
    if seconds is not None:
        _SECONDS.labels(stage, "Failed").observe(coarse(stage, seconds))


def coarse(stage: str, seconds: float) -> float:
    """What may be said of how long it took."""
    if stage not in PRIVATE_STAGES:
        return seconds
    bound = next((bound for bound in BOUNDS if seconds <= bound), None)
    return bound or math.ceil(seconds / BOUNDS[-1]) * BOUNDS[-1]
