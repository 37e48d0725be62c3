"""PrivacyBudgets: what is spent of each, what became of charges, and the journals themselves."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from .catalogue import Metric, counter, start_at_zero
from .table import Sample, Table

MECHANISMS = ("poisson-subsampled-gaussian", "discrete-gaussian")
OUTCOMES = ("reserved", "started", "committed", "released")
BASES = ("completed", "disrupted", "full")
_OPERATIONS = ("open", "reserve", "commit", "release")
_RESULTS = ("success", "denied", "error")
_PARTS = ("committed", "reserved", "left")
_BUDGET = {"privacybudget": "the PrivacyBudget"}

_SHARE = Metric(
    "palimpsest_privacybudget_share",
    "gauge",
    "ratio",
    "Part of the budget's gate that is committed, reserved and left: the three add up to 1.",
    {**_BUDGET, "state": _PARTS},
)
_EPSILON = Metric(
    "palimpsest_privacybudget_epsilon",
    "gauge",
    "epsilon",
    "The same at the gate's order as epsilon: what is committed; what the reservations would add; "
    "what is left of the limit. For people to read: epsilons of charges do not add, shares do.",
    {**_BUDGET, "state": _PARTS},
)
_LIMIT = Metric(
    "palimpsest_privacybudget_limit_epsilon",
    "gauge",
    "epsilon",
    "The epsilon that all releases of the budget together have at most.",
    _BUDGET,
)
_DELTA = Metric(
    "palimpsest_privacybudget_limit_delta",
    "gauge",
    "delta",
    "The delta of that guarantee.",
    _BUDGET,
)
_CHARGES = Metric(
    "palimpsest_privacybudget_charges",
    "gauge",
    "charges",
    "Charges in the budget's journal by what became of them.",
    {**_BUDGET, "state": OUTCOMES},
)
_OLDEST = Metric(
    "palimpsest_privacybudget_oldest_reservation_timestamp_seconds",
    "gauge",
    "seconds",
    "When the oldest charge was reserved that is neither committed nor released, Unix time. No "
    "series while nothing is held.",
    _BUDGET,
)
_SOUND = Metric(
    "palimpsest_budget_ledger_verified",
    "gauge",
    "1",
    "1 while the budget's journal holds all that is remembered of it, 0 once it does not.",
    _BUDGET,
)
_OUTCOME = counter(
    "palimpsest_charges_total",
    "charges",
    "Charges by mechanism and what became of them, whoever wrote it to the journal, since this "
    "process first read that.",
    {"mechanism": MECHANISMS, "outcome": OUTCOMES},
)
_COMMITS = counter(
    "palimpsest_charge_commits_total",
    "charges",
    "Committed charges by basis: completed with a release, disrupted or full without one.",
    {"mechanism": MECHANISMS, "basis": BASES},
)
_APPENDS = counter(
    "palimpsest_ledger_operations_total",
    "operations",
    "What the operator asked of journals. Denied: it does not fit.",
    {"operation": _OPERATIONS, "result": _RESULTS},
)
_CONFLICTS = counter(
    "palimpsest_ledger_conflicts_total",
    "races",
    "Sequence numbers that another writer took first; the operator tries the next.",
)

start_at_zero(_OUTCOME, MECHANISMS, OUTCOMES)
start_at_zero(_COMMITS, MECHANISMS, BASES)
start_at_zero(_APPENDS, _OPERATIONS, _RESULTS)

_spending: Table[str] = Table(_SHARE, _EPSILON, _LIMIT, _DELTA, _CHARGES, _OLDEST)
_verified: Table[str] = Table(_SOUND)


@dataclass(frozen=True)
class Spending:
    """A budget's journal in figures: parts of the gate, and epsilons at its order.

    `epsilon_promised` is of what is committed and reserved together; `oldest` Unix time.
    """

    committed: float
    reserved: float
    epsilon_committed: float
    epsilon_promised: float
    limit_epsilon: float
    limit_delta: float
    charges: Mapping[str, int]
    oldest: float | None


def observe(name: str, spending: Spending) -> None:
    """What a budget's journal says now."""
    left = 1 - spending.committed - spending.reserved
    committed, promised = spending.epsilon_committed, spending.epsilon_promised
    shares = (spending.committed, spending.reserved, left)
    epsilons = (committed, promised - committed, max(0.0, spending.limit_epsilon - promised))
    samples = [
        *_parts(_SHARE, name, shares),
        *_parts(_EPSILON, name, epsilons),
        Sample(_LIMIT.name, (name,), spending.limit_epsilon),
        Sample(_DELTA.name, (name,), spending.limit_delta),
        *(
            Sample(_CHARGES.name, (name, state), spending.charges.get(state, 0))
            for state in OUTCOMES
        ),
    ]
    if spending.oldest is not None:
        samples.append(Sample(_OLDEST.name, (name,), spending.oldest))
    _spending.put(name, samples)


def _parts(metric: Metric, name: str, values: tuple[float, float, float]) -> Iterator[Sample]:
    for state, value in zip(_PARTS, values, strict=True):
        yield Sample(metric.name, (name, state), value)


def observe_ledger(name: str, verified: bool) -> None:
    """Whether a budget's journal was found sound when it was last read."""
    _verified.put(name, [Sample(_SOUND.name, (name,), float(verified))])


def forget(name: str) -> None:
    """A budget is gone; its series end."""
    _spending.forget(name)
    _verified.forget(name)


def known() -> list[str]:
    """The budgets that have series."""
    return sorted({*_spending.keys(), *_verified.keys()})


def charge(mechanism: str, outcome: str) -> None:
    """A charge was reserved, started, committed or released."""
    _OUTCOME.labels(mechanism, outcome).inc()


def commit(mechanism: str, basis: str) -> None:
    """A charge was committed, on this basis."""
    _COMMITS.labels(mechanism, basis).inc()


def conflict() -> None:
    """Another writer was faster."""
    _CONFLICTS.inc()


@contextmanager
def operation(name: str, denied: type[Exception]) -> Iterator[None]:
    """Count one operation on a journal; `denied` is the exception of what does not fit."""
    result = "success"
    try:
        yield
    except denied:
        result = "denied"
        raise
    except BaseException:
        result = "error"
        raise
    finally:
        _APPENDS.labels(name, result).inc()
