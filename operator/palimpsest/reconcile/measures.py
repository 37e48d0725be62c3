"""What a pass tells of budgets, resources and stages, as metrics say it. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from palimpsest.ledger.state import LedgerState
from palimpsest.privacy.accountant import epsilon_at
from palimpsest.privacy.gate import UNITS_PER_NAT
from palimpsest.telemetry.budgets import Spending

from .observed import Job
from .stages import why

Status = Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """An attempt of a stage that ended `at`, without an artifact if there is a `reason`.

    `shown`: the status itself says when it ended.
    """

    stage: str
    reason: str
    seconds: float | None
    at: str
    begun: str = ""
    job: str = ""
    charge: str = ""
    shown: bool = True


def standing(status: Status) -> str:
    """Ready, Reconciling or Stalled."""
    return next(
        (
            each["type"]
            for each in status.get("conditions", ())
            if each["type"] in ("Ready", "Stalled") and each["status"] == "True"
        ),
        "Reconciling",
    )


def progress(status: Status) -> dict[str, float]:
    """How much of its work each stage that runs has done, as its progress says."""
    return {
        stage["name"]: _ratio(stage.get("progress", ""))
        for stage in status.get("stages", ())
        if stage["state"] == "Running"
    }


def figures(status: Status) -> dict[tuple[str, str], float]:
    """What alignment's stages tell of their last step, by stage and figure."""
    return {
        (stage["name"], name): float(value)
        for stage in status.get("stages", ())
        if stage["state"] == "Running"
        for name, value in stage.get("figures", {}).items()
    }


def _ratio(text: str) -> float:
    """Of `done/total unit`; 0 before the first report."""
    done, slash, rest = text.partition("/")
    try:
        return min(1.0, int(done) / int(rest.split()[0])) if slash else 0.0
    except (ValueError, IndexError, ZeroDivisionError):
        return 0.0


def ended(before: Status, after: Status, jobs: Sequence[Job]) -> Iterator[Ended]:
    """Attempts that `after` is the first status to tell the end of."""
    known = {stage["name"]: stage for stage in before.get("stages", ())}
    for stage in after.get("stages", ()):
        told: Status = known.get(stage["name"], {})
        charge = (stage.get("charge") or {}).get("id", "")
        if stage["state"] == "Succeeded":
            begun, over = stage.get("startTime"), stage.get("completionTime")
            news = told.get("state") != "Succeeded" or not told.get("completionTime")
            if begun and over and news:
                seconds, job_name = _seconds(begun, over), stage.get("job", "")
                yield Ended(stage["name"], "", seconds, over, begun, job_name, charge)
            continue
        named = {stage.get("job"), told.get("job")} - {"", None}
        job = next((job for job in jobs if job.name in named and job.state == "Failed"), None)
        # A status that waited, or had failed, with the Job's name has told of its end.
        known_end = told.get("state") in ("Waiting", "Failed")
        if job is not None and not (known_end and told.get("job") == job.name):
            lasted = _seconds(job.started, job.ended) if job.started and job.ended else None
            yield Ended(
                stage["name"],
                why(job)[0],
                lasted,
                job.ended,
                job.started,
                job.name,
                charge,
                shown=stage["state"] == "Failed",
            )


def _seconds(begun: str, over: str) -> float:
    return (datetime.fromisoformat(over) - datetime.fromisoformat(begun)).total_seconds()


def spending(ledger: LedgerState) -> Spending:
    """An open journal in figures."""
    held = [charge.reserved_at for charge in ledger.charges.values() if charge.active]
    return Spending(
        committed=ledger.committed / ledger.limit_units,
        reserved=ledger.reserved / ledger.limit_units,
        epsilon_committed=_epsilon(ledger, ledger.committed),
        epsilon_promised=_epsilon(ledger, ledger.committed + ledger.reserved),
        limit_epsilon=float(ledger.epsilon),
        limit_delta=float(ledger.delta),
        charges=Counter(charge.status for charge in ledger.charges.values()),
        oldest=min((datetime.fromisoformat(each).timestamp() for each in held), default=None),
    )


def _epsilon(ledger: LedgerState, units: int) -> float:
    if not units:
        return 0.0
    return epsilon_at(units / UNITS_PER_NAT, ledger.order, float(ledger.delta))
