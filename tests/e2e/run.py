"""What one run of the pipeline left behind, and how the tests look at it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from demo import denial
from demo.checker import artifacts, journal
from demo.checker.bucket import Access, Bucket
from demo.ground import Ground
from e2e.specs import Specs


@dataclass
class Pipeline:
    """What happened; `specs` names the resources."""

    ground: Ground
    specs: Specs
    bucket: Bucket
    resources: list[dict[str, Any]] = field(default_factory=list)
    refused: denial.Denial | None = None
    deleted_job: str = ""
    operator_before: set[str] = field(default_factory=set)
    operator_after: set[str] = field(default_factory=set)

    def access(self, role: str) -> Bucket:
        """The object store with a role's keys."""
        return bucket_as(self.ground, role)

    def replay(self) -> journal.Replay:
        """The journal, checked entry by entry."""
        name, _, prefix = self.specs.data.removeprefix("s3://").partition("/")
        return journal.replay_entries(
            journal.read(self.bucket, f"s3://{name}/.palimpsest/{prefix}ledger/")
        )

    def artifacts(self) -> list[artifacts.Artifact]:
        """Everything published."""
        return artifacts.find(self.bucket, [self.specs.releases, self.specs.outputs])


def bucket_as(ground: Ground, role: str) -> Bucket:
    """The object store with a role's keys."""
    keys = ground.store.keys[role]
    access = Access(
        ground.store.endpoint_here, ground.store.region, keys.access_key, keys.secret_key
    )
    return Bucket(access)
