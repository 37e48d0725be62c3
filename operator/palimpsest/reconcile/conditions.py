"""Conditions as kstatus reads them: Ready, Reconciling, Stalled, and one for each stage."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from palimpsest.api.common import Condition, StageStatus

STAGE_CONDITIONS = {
    "train": "Trained",
    "sample": "Sampled",
    "cluster": "Clustered",
    "histogram": "Counted",
    "select": "Selected",
    "annotate": "Annotated",
    "card": "Published",
    "sft": "Aligned",
}


@dataclass(frozen=True)
class Verdict:
    """Where a resource stands: done, on its way (or waiting for a cause to go), or stuck."""

    state: Literal["Ready", "Reconciling", "Stalled"]
    reason: str
    message: str


def rfc3339(moment: datetime) -> str:
    """UTC, whole seconds, as Kubernetes writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def conditions(
    previous: Sequence[Condition],
    verdict: Verdict,
    stages: Sequence[StageStatus],
    generation: int,
    now: datetime,
) -> list[Condition]:
    """The full list of conditions; transition times move only when a status changes."""
    wanted: list[tuple[str, bool, str, str]] = [
        ("Ready", verdict.state == "Ready", verdict.reason, verdict.message),
        _flag("Reconciling", verdict),
        _flag("Stalled", verdict),
    ]
    for stage in stages:
        done = stage.state == "Succeeded"
        message = stage.message or f"The {stage.name} stage: {stage.progress or stage.state}."
        wanted.append((STAGE_CONDITIONS[stage.name], done, stage.state, message))
    before = {condition.type: condition for condition in previous}
    return [
        _condition(before.get(kind), kind, status, reason, message, generation, now)
        for kind, status, reason, message in wanted
    ]


def _flag(kind: Literal["Reconciling", "Stalled"], verdict: Verdict) -> tuple[str, bool, str, str]:
    if verdict.state == kind:
        return (kind, True, verdict.reason, verdict.message)
    return (kind, False, verdict.state, "")


def _condition(
    before: Condition | None,
    kind: str,
    status: bool,
    reason: str,
    message: str,
    generation: int,
    now: datetime,
) -> Condition:
    word: Literal["True", "False"] = "True" if status else "False"
    kept = before is not None and before.status == word
    return Condition(
        type=kind,
        status=word,
        reason=reason,
        message=message[:1024],
        last_transition_time=before.last_transition_time if before and kept else rfc3339(now),
        observed_generation=generation,
    )
