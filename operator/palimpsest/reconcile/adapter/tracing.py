"""Spans of what lasts longer than a pass: a resource until it is Ready, a stage's attempts.

Their times are those of the status, so that they need no memory that a restart would lose.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from palimpsest.reconcile.measures import Ended, standing
from palimpsest.reconcile.observed import Meta
from palimpsest.telemetry import stages, traces
from palimpsest.telemetry.resources import Object
from palimpsest.telemetry.traces import Trace

_SETTLED = ("Ready", "Stalled")


def trace_of(meta: Meta) -> Trace:
    """The trace of the resource's generation."""
    return Trace(meta.kind, meta.namespace, meta.name, meta.uid, meta.generation)


def stage_ended(trace: Trace, attempt: Ended) -> None:
    """An attempt, from its Job's start to its end."""
    if attempt.seconds is None:
        return
    begun, ended = traces.moment(attempt.begun), traces.moment(attempt.at)
    if not attempt.shown:
        # The status has no end of it: of a private stage no more is told than its metrics do.
        ended = begun + int(stages.coarse(attempt.stage, attempt.seconds)) * 10**9
    told = {"job": attempt.job, "charge": attempt.charge}
    traces.stage(trace, attempt.stage, begun, ended, attempt.reason, told)


class Roots:
    """Each generation's root, told of when it first is Ready or Stalled."""

    def __init__(self) -> None:
        self._told: dict[Object, Trace] = {}

    def observe(
        self,
        thing: Object,
        trace: Trace,
        current: Mapping[str, Any],
        status: Mapping[str, Any],
        links: tuple[Trace, ...],
    ) -> None:
        """`current` is the resource as it was, `status` what was written."""
        now = standing(status)
        if not traces.enabled() or now not in _SETTLED or self._told.get(thing) == trace:
            return
        self._told[thing] = trace
        before = current.get("status") or {}
        known = before.get("observedGeneration") == trace.generation
        if known and standing(before) in _SETTLED:
            return  # told of by the process before this one
        under_way = traces.current()
        if under_way is not None:
            begun = asked_at(current["metadata"])
            traces.root(trace, begun, under_way.now(), now, status["summary"], links)

    def forget(self, thing: Object) -> None:
        """It is gone."""
        self._told.pop(thing, None)


def asked_at(metadata: Mapping[str, Any]) -> int:
    """When the spec was written last; of a first generation, when it was made."""
    if metadata.get("generation", 1) > 1:
        written = [
            entry["time"]
            for entry in metadata.get("managedFields") or ()
            if "f:spec" in entry.get("fieldsV1", {})
        ]
        if written:
            return traces.moment(max(written, key=datetime.fromisoformat))
    return traces.moment(metadata["creationTimestamp"])
