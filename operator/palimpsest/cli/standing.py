"""Where resources stand, as figures. Pure: from manifests as the API server shows them.

They are read as they come, not by the models: a status of another version is shown, too.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from palimpsest.api.task import PRIVATE_STAGES

State = Literal["Ready", "Reconciling", "Stalled", "Terminating", "Deleted"]

INDEX_LABEL = "batch.kubernetes.io/job-completion-index"

# The attempt at the end of a private stage's Job.
_ATTEMPT = re.compile(r"-[0-9a-f]{16}-([0-9]{1,4})$")
_UNSEEN = (
    "No operator has seen this spec yet: see whether one runs (kubectl get pods -n "
    "palimpsest-system)."
)


@dataclass(frozen=True)
class Stage:
    """How far a stage is. Numbers that nobody could say are None."""

    name: str
    state: str
    attempts: int | None
    progress: str
    started: str
    ended: str
    seconds: float | None
    share: str
    charge: str
    message: str
    artifacts: tuple[Mapping[str, str], ...]


@dataclass(frozen=True)
class Standing:
    """Where a resource stands, and what helps where it does not go on."""

    kind: str
    namespace: str
    name: str
    state: State
    reason: str
    message: str
    progress: str
    share: str
    reserved: str
    suspended: bool
    created: str
    stages: tuple[Stage, ...] = field(default=(), compare=False)
    guarantee: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is known by."""
        return self.kind, self.namespace, self.name

    @property
    def label(self) -> str:
        """The same for a reader."""
        return "/".join(filter(None, (self.kind, self.namespace, self.name)))


def standing(
    raw: Mapping[str, Any], now: datetime, pods: Iterable[Mapping[str, str]] | None = None
) -> Standing:
    """What a resource says of itself. `pods` are the labels of its pods outside custody."""
    metadata, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    state, reason, message = _verdict(metadata, status)
    shares = status.get("shares") or {}
    labels = None if pods is None else list(pods)
    return Standing(
        kind=raw["kind"],
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        state=state,
        reason=reason,
        message=message,
        progress=status.get("progress", ""),
        share=shares.get("committed", status.get("share", "")),
        reserved=shares.get("reserved", ""),
        suspended=bool(spec.get("suspend")),
        created=metadata.get("creationTimestamp", ""),
        stages=tuple(_stage(each, now, labels) for each in status.get("stages") or ()),
        guarantee=status.get("guarantee", ""),
    )


def _verdict(metadata: Mapping[str, Any], status: Mapping[str, Any]) -> tuple[State, str, str]:
    """As kstatus computes it."""
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    ready = conditions.get("Ready", {})
    reason, message = ready.get("reason", ""), ready.get("message", "")
    if metadata.get("deletionTimestamp"):
        return "Terminating", "Terminating", message if ready.get("status") != "True" else ""
    if not ready or status.get("observedGeneration") != metadata.get("generation"):
        return "Reconciling", "NotObserved", _UNSEEN
    if ready.get("status") == "True":
        return "Ready", reason, message
    stalled = conditions.get("Stalled", {}).get("status") == "True"
    return "Stalled" if stalled else "Reconciling", reason, message


def _stage(status: Mapping[str, Any], now: datetime, pods: list[Mapping[str, str]] | None) -> Stage:
    started, ended = status.get("startTime", ""), status.get("completionTime", "")
    charge = status.get("charge") or {}
    return Stage(
        name=status["name"],
        state=status["state"],
        attempts=_attempts(status, pods),
        progress=status.get("progress", ""),
        started=started,
        ended=ended,
        seconds=_between(started, ended, now),
        share=charge.get("share", ""),
        charge=charge.get("state", ""),
        message=status.get("message", ""),
        artifacts=tuple(status.get("artifacts") or ()),
    )


def _attempts(status: Mapping[str, Any], pods: list[Mapping[str, str]] | None) -> int | None:
    """In custody the Job's number; elsewhere the most pods that one shard of the Job had."""
    match = _ATTEMPT.search(status.get("job", ""))
    if match:
        return int(match[1])
    if pods is None or status["name"] in PRIVATE_STAGES:
        return None
    mine = [each for each in pods if each.get("palimpsest.dev/stage") == status["name"]]
    return max(Counter(each.get(INDEX_LABEL, "") for each in mine).values(), default=None)


def _between(started: str, ended: str, now: datetime) -> float | None:
    first = moment(started)
    if first is None:
        return None
    last = moment(ended) or now
    return max(0.0, (last - first).total_seconds())


def moment(text: str) -> datetime | None:
    """The moment that an RFC 3339 text says."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def plain(found: Standing) -> dict[str, Any]:
    """The figures under the API's own names, for programs; empty ones are left out."""
    figures: dict[str, Any] = {
        "kind": found.kind,
        "namespace": found.namespace,
        "name": found.name,
        "state": found.state,
        "reason": found.reason,
        "message": found.message,
        "progress": found.progress,
        "share": found.share,
        "reserved": found.reserved,
        "created": found.created,
        "guarantee": found.guarantee,
        "stages": [_plain_stage(each) for each in found.stages],
    }
    return {key: value for key, value in figures.items() if value not in ("", [])} | {
        "suspended": found.suspended
    }


def _plain_stage(stage: Stage) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "name": stage.name,
        "state": stage.state,
        "attempts": stage.attempts,
        "progress": stage.progress,
        "startTime": stage.started,
        "completionTime": stage.ended,
        "seconds": stage.seconds,
        "share": stage.share,
        "charge": stage.charge,
        "message": stage.message,
        "artifacts": [dict(each) for each in stage.artifacts],
    }
    return {key: value for key, value in figures.items() if value not in ("", [], None)}
