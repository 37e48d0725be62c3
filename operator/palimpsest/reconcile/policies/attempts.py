"""Whether a failed Job is worth another attempt, and when.

A cause outside the program goes away by itself or by somebody's hand: the next attempt finds out.
The program's own failure would come again. No answer depends on record values: outcomes do not.
"""

from datetime import datetime, timedelta

from palimpsest.api.outcomes import Outcome
from palimpsest.reconcile.observed import Job

# How long after its end a failure by a cause outside is tried again.
PAUSES = {
    Outcome.INTERRUPTED: timedelta(seconds=5),
    Outcome.STORE_UNAVAILABLE: timedelta(seconds=30),
    Outcome.ACCESS_DENIED: timedelta(seconds=60),
    Outcome.ENDPOINT_ACCESS_DENIED: timedelta(seconds=60),
    # The attempt itself had patience.
    Outcome.ENDPOINT_UNREACHABLE: timedelta(minutes=5),
    Outcome.ENDPOINT_TIMED_OUT: timedelta(minutes=5),
    Outcome.ENDPOINT_FAILING: timedelta(minutes=5),
    Outcome.ENDPOINT_RATE_LIMITED: timedelta(minutes=5),
    Outcome.ENDPOINT_GARBLED: timedelta(minutes=5),
}


def retry_at(job: Job, compute: str) -> datetime | None:
    """When the failed Job's work may be tried again; None: not until somebody changes something.

    `compute` is the digest of what the pods would be given now: a Job that failed with less memory
    than the spec gives by now is tried again at once.
    """
    ended = job.ended_at
    if job.state != "Failed" or ended is None:
        return None
    if job.outcome in PAUSES:
        return ended + PAUSES[job.outcome]
    if job.failure == "Disrupted":
        return ended
    if job.failure == "Retryable":
        return ended + PAUSES[Outcome.STORE_UNAVAILABLE]
    if job.compute and job.compute != compute:
        return ended
    return None
