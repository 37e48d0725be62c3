"""The stages' progress as the resources' statuses tell it, until all are Ready or one is stuck."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from demo.console import DemoError, Live, clock, say
from demo.kubectl import Tools

PLURALS = "privacybudgets,privategenerators,syntheticdatasets,alignmentruns"
MANAGED = "app.kubernetes.io/managed-by=palimpsest"
POLL_SECONDS = 2.0
# What is stuck for this long does not come loose by itself: a budget's first seconds may look so.
STUCK_SECONDS = 25.0
# A Job's end may be told this much later than its artifact.
END_SECONDS = 45.0


@dataclass(frozen=True)
class Stage:
    """One stage of one resource."""

    resource: str
    name: str
    state: str
    progress: str
    message: str
    job: str
    seconds: float | None

    @property
    def label(self) -> str:
        """How the stage is called in the demo's lines."""
        return f"{self.resource}: {self.name}"


def condition(resource: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A condition of a resource, or {} if it has none of this type."""
    for entry in resource.get("status", {}).get("conditions", []):
        if entry["type"] == kind:
            found: dict[str, Any] = entry
            return found
    return {}


def ready(resource: Mapping[str, Any]) -> bool:
    """Whether the resource's latest generation is Ready."""
    status = resource.get("status", {})
    current = status.get("observedGeneration") == resource["metadata"]["generation"]
    return current and condition(resource, "Ready").get("status") == "True"


def ended(resource: Mapping[str, Any]) -> bool:
    """Whether every stage's Job is known to have ended: its artifact is there before that."""
    return all(stage.seconds is not None for stage in stages(resource) if stage.job)


def stuck(resource: Mapping[str, Any]) -> str:
    """Reason and message of a resource that will not go on by itself, or ""."""
    stalled = condition(resource, "Stalled")
    if stalled.get("status") != "True":
        return ""
    told = condition(resource, "Ready") or stalled
    return f"{resource['kind']} {resource['metadata']['name']}: {told['reason']}: {told['message']}"


def stages(resource: Mapping[str, Any]) -> list[Stage]:
    """The stages that a resource's status lists."""
    name = f"{resource['kind']} {resource['metadata']['name']}"
    return [
        Stage(
            resource=name,
            name=stage["name"],
            state=stage["state"],
            progress=stage.get("progress", ""),
            message=stage.get("message", ""),
            job=stage.get("job", ""),
            seconds=_seconds(stage.get("startTime"), stage.get("completionTime")),
        )
        for stage in resource.get("status", {}).get("stages", [])
    ]


def _seconds(start: str | None, end: str | None) -> float | None:
    if not start or not end:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def span(resources: list[dict[str, Any]]) -> float:
    """Seconds from the first stage's start to the last one's end; 0 if none ran."""
    moments = [
        datetime.fromisoformat(stage[key])
        for resource in resources
        for stage in resource.get("status", {}).get("stages", [])
        for key in ("startTime", "completionTime")
        if stage.get(key)
    ]
    return (max(moments) - min(moments)).total_seconds() if moments else 0.0


def fetch(tools: Tools) -> list[dict[str, Any]]:
    """All resources of the product, budgets first."""
    items: list[dict[str, Any]] = tools.get(PLURALS, "--all-namespaces")["items"]
    return items


def until_ready(
    tools: Tools,
    names: set[tuple[str, str]],
    timeout: float,
    during: Callable[[list[dict[str, Any]]], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Show progress until every (kind, name) is Ready; then all resources.

    Raises DemoError when one is stuck, its stage failed, or the time is over.
    """
    live, began, first_stuck, first_ready = Live(), time.monotonic(), None, None
    while True:
        elapsed = time.monotonic() - began
        resources = [r for r in fetch(tools) if (r["kind"], r["metadata"]["name"]) in names]
        live.show(_rows(resources), elapsed)
        if len(resources) == len(names) and all(map(ready, resources)):
            first_ready = elapsed if first_ready is None else first_ready
            if all(map(ended, resources)) or elapsed - first_ready > END_SECONDS:
                return resources
        during(resources)
        troubles = [trouble for trouble in map(stuck, resources) if trouble]
        first_stuck = (first_stuck or elapsed) if troubles else None
        if first_stuck is not None and elapsed - first_stuck > STUCK_SECONDS:
            _explain(tools, resources)
            raise DemoError(troubles[0])
        if elapsed > timeout:
            _explain(tools, resources)
            raise DemoError(f"not Ready after {clock(timeout)} minutes")
        time.sleep(POLL_SECONDS)


def _rows(resources: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    rows = []
    for resource in resources:
        name = f"{resource['kind']} {resource['metadata']['name']}"
        told = condition(resource, "Ready")
        listed = stages(resource)
        if not listed:
            done = "Ready" if ready(resource) else told.get("reason", "Waiting")
            rows.append((name, done, "" if ready(resource) else told.get("message", "")))
        for stage in listed:
            took = f"{stage.seconds:.0f} s" if stage.seconds is not None else ""
            detail = took if stage.state == "Succeeded" else stage.progress or stage.message
            rows.append((stage.label, stage.state, detail))
    return rows


def _explain(tools: Tools, resources: list[dict[str, Any]]) -> None:
    """What a person would ask next: the conditions, the failed stage's pods."""
    for resource in resources:
        if ready(resource):
            continue
        metadata = resource["metadata"]
        where = ["-n", metadata["namespace"]] if "namespace" in metadata else []
        say(f"\n   kubectl describe {resource['kind'].lower()} {metadata['name']}")
        say(tools.kubectl("describe", resource["kind"].lower(), metadata["name"], *where).out)
    say(
        tools.kubectl("get", "jobs,pods", "-A", "-l", "app.kubernetes.io/managed-by=palimpsest").out
    )
