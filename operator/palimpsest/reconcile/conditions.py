"""Conditions as kstatus reads them: Ready, Reconciling, Stalled, and one for each stage."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from palimpsest.api.common import Condition, StageStatus

STAGE_CONDITIONS = {
    "train": "Trained",
    "sample": "Sampled",
    "cluster": "Clustered",
    "histogram": "Counted",
    "select": "Selected",
    "annotate": "Annotated",
    "card": "Published",
    "prune": "Pruned",
    "reward": "RewardTrained",
    "sft": "Aligned",
    "dpo": "Aligned",
    "rlhf": "Aligned",
}


Word = Literal["True", "False", "Unknown"]


@dataclass(frozen=True)
class Finding:
    """A condition of a kind's own, beside the common ones."""

    type: str
    status: Word
    reason: str
    message: str


@dataclass(frozen=True)
class Verdict:
    """Where a resource stands: done, on its way (or waiting for a cause to go), or stuck."""

    state: Literal["Ready", "Reconciling", "Stalled"]
    reason: str
    message: str


def standing(previous: Sequence[Condition], generation: int) -> str:
    """The reason that the status gave for this same spec; "" if it spoke of another."""
    for condition in previous:
        if condition.type == "Ready" and condition.observed_generation == generation:
            return condition.reason
    return ""


def rfc3339(moment: datetime) -> str:
    """UTC, whole seconds, as Kubernetes writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def conditions(
    previous: Sequence[Condition],
    verdict: Verdict,
    stages: Sequence[StageStatus],
    generation: int,
    now: datetime,
    findings: Sequence[Finding] = (),
) -> list[Condition]:
    """The full list of conditions; transition times move only when a status changes."""
    wanted = [
        Finding("Ready", _word(verdict.state == "Ready"), verdict.reason, verdict.message),
        _flag("Reconciling", verdict),
        _flag("Stalled", verdict),
    ]
    for stage in stages:
        done = _word(stage.state == "Succeeded")
        message = stage.message or f"The {stage.name} stage: {stage.progress or stage.state}."
        wanted.append(Finding(STAGE_CONDITIONS[stage.name], done, stage.state, message))
    before = {condition.type: condition for condition in previous}
    return [
        _condition(before.get(finding.type), finding, generation, now)
        for finding in (*wanted, *findings)
    ]


def refused(status: dict[str, Any], reason: str, message: str, now: datetime) -> dict[str, Any]:
    """The status (as JSON) of a resource whose Job the API server refused; it is tried again."""
    parsed = [Condition.model_validate(item) for item in status["conditions"]]
    if any(each.type == "Ready" and each.status == "True" for each in parsed):
        return status  # what is published stays so, whatever is still to be tidied up
    told = {
        "Ready": Finding("Ready", "False", reason, message),
        "Reconciling": Finding("Reconciling", "True", reason, message),
        "Stalled": Finding("Stalled", "False", "Reconciling", ""),
    }
    changed = [
        _condition(before, told[before.type], before.observed_generation, now)
        if before.type in told
        else before
        for before in parsed
    ]
    written = [each.model_dump(by_alias=True, exclude_none=True) for each in changed]
    return {**status, "summary": reason, "conditions": written}


def _word(true: bool) -> Word:
    return "True" if true else "False"


def _flag(kind: Literal["Reconciling", "Stalled"], verdict: Verdict) -> Finding:
    if verdict.state == kind:
        return Finding(kind, "True", verdict.reason, verdict.message)
    return Finding(kind, "False", verdict.state, "")


def _condition(
    before: Condition | None, finding: Finding, generation: int, now: datetime
) -> Condition:
    kept = before is not None and before.status == finding.status
    return Condition(
        type=finding.type,
        status=finding.status,
        reason=finding.reason,
        message=finding.message[:1024],
        last_transition_time=before.last_transition_time if before and kept else rfc3339(now),
        observed_generation=generation,
    )
