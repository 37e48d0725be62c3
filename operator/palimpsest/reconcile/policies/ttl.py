"""When the Jobs of a resource that is Ready are deleted; the resource itself never is."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from palimpsest.api.common import StageStatus
from palimpsest.reconcile.observed import Job
from palimpsest.reconcile.plan import DeleteJob


def finished(
    jobs: Sequence[Job], seconds: int | None, now: datetime
) -> tuple[tuple[DeleteJob, ...], float | None]:
    """Jobs past their time, and seconds until the next one is. Failed Jobs tell why: they stay."""
    if seconds is None:
        return (), None
    due: list[DeleteJob] = []
    next_due: float | None = None
    for job in jobs:
        if job.state != "Succeeded" or job.deleting or job.ended_at is None:
            continue
        left = (job.ended_at + timedelta(seconds=seconds) - now).total_seconds()
        if left <= 0:
            due.append(DeleteJob(job.namespace, job.name))
        else:
            next_due = left if next_due is None else min(next_due, left)
    return tuple(due), next_due


def remembered(stage: StageStatus, before: Sequence[StageStatus]) -> StageStatus:
    """The stage with its Job's name and times, where the Job is gone and the status knew them."""
    if stage.state != "Succeeded" or stage.job:
        return stage
    for known in before:
        if known.name == stage.name and known.state == "Succeeded":
            return stage.model_copy(
                update={
                    "job": known.job,
                    "start_time": known.start_time,
                    "completion_time": known.completion_time,
                }
            )
    return stage
