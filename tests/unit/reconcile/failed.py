"""A Job whose program failed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from palimpsest.reconcile.observed import Job

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def failed(**changes: Any) -> Job:
    """The first attempt of a training, but for the changes."""
    told: dict[str, Any] = {
        "namespace": "n",
        "name": "j",
        "stage": "train",
        "attempt": 1,
        "state": "Failed",
        "failure": "Program",
        "deleting": False,
        "suspended": False,
        "started": "",
        "ended": "",
        "ended_at": NOW,
    }
    return Job(**{**told, **changes})
