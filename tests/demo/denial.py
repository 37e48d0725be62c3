"""A generator that does not fit: refused at the door, and nothing of it ever ran."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from demo.console import DemoError
from demo.install import CUSTODY, TENANT
from demo.kubectl import Tools

NAME = "one-too-many"


@dataclass(frozen=True)
class Denial:
    """The refusal's words and what exists of the refused generator."""

    text: str
    jobs: int
    pods: int


def attempt(tools: Tools, manifest: Path, name: str = NAME) -> Denial:
    """Apply the generator that overspends. Raises DemoError unless it is denied for good."""
    answer = tools.kubectl("apply", "-f", str(manifest))
    if answer.code == 0:
        tools.kubectl("-n", TENANT, "delete", "privategenerator", name, "--wait=false")
        raise DemoError(
            "the generator that overspends was admitted: is the admission webhook installed?"
        )
    text = " ".join(answer.err.split())
    if "denied the request" not in text:
        raise DemoError(f"the generator that overspends failed for another reason: {text}")
    jobs, pods = remains(tools, name)
    if jobs or pods:
        raise DemoError(f"the denied generator has {jobs} Jobs and {pods} pods")
    return Denial(text, jobs, pods)


def remains(tools: Tools, name: str) -> tuple[int, int]:
    """Jobs and pods of a generator, in custody and in its own namespace."""
    counts = []
    for kind in ("jobs", "pods"):
        found = 0
        for namespace in (CUSTODY, TENANT):
            items = tools.get(kind, "-n", namespace)["items"]
            found += sum(item["metadata"]["name"].startswith(f"{name}-") for item in items)
        counts.append(found)
    return counts[0], counts[1]
