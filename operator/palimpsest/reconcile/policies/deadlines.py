"""How long a reservation may wait for its stage to begin."""

from datetime import datetime, timedelta

from palimpsest.ledger.state import Charge
from palimpsest.reconcile.observed import Job

TIMED_OUT = "ReservationTimedOut"


def expires_at(charge: Charge, timeout: timedelta) -> datetime:
    """When a charge that never started gives its reservation back."""
    return datetime.fromisoformat(charge.reserved_at) + timeout


def expired(charge: Charge, latest: Job | None, timeout: timedelta, now: datetime) -> bool:
    """Whether it never started and waited too long; a pod that runs is about to start."""
    if charge.status != "reserved" or now < expires_at(charge, timeout):
        return False
    return latest is None or not any(pod.phase in ("Running", "Succeeded") for pod in latest.pods)


def message(stage: str, timeout: str) -> str:
    """What to say of it."""
    return (
        f"The {stage} stage did not start within {timeout} (reservationTimeout of the budget) and "
        "its reservation was given back. Remove what held it, then set spec.suspend to true and "
        "back to false to queue again."
    )
