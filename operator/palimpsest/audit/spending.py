"""Who spent what, what is left, what would still fit: from a journal or a status alone. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

from palimpsest.api.budget import PrivacyBudget
from palimpsest.audit.journal import Replay
from palimpsest.ledger.state import LedgerState
from palimpsest.privacy.calibration import DEFAULT_BATCH, DEFAULT_STEPS
from palimpsest.privacy.gate import rho
from palimpsest.privacy.inverse import (
    histogram_noise_that_fits,
    largest_epsilon_that_fits,
)
from palimpsest.privacy.mechanisms import Mechanism, PoissonSubsampledGaussian


@dataclass(frozen=True)
class Line:
    """A charge as the table shows it; `share` of the limit."""

    subject: str
    mechanism: str
    state: str
    share: float


@dataclass(frozen=True)
class Fit:
    """The best that still fits; None where nothing does."""

    batch: int
    steps: int
    epsilon: str | None
    histogram_noise: str | None


@dataclass(frozen=True)
class Point:
    """Shares after an entry; `time` as the entry has it (UTC)."""

    time: str
    committed: float
    reserved: float


@dataclass(frozen=True)
class Account:
    """A budget's spending. `history` is empty where only the status is known."""

    name: str
    epsilon: str
    delta: str
    order: int
    committed: float
    reserved: float
    left: float
    charges: tuple[Line, ...]
    fit: Fit
    history: tuple[Point, ...] = ()
    ended: bool = False


def of_journal(name: str, replayed: Replay, budget: PrivacyBudget | None) -> Account:
    """From the journal, up to the last entry that follows."""
    state = replayed.state
    units = state.limit_units
    charges = sorted(state.charges.values(), key=lambda charge: charge.reserved)
    return Account(
        name=name,
        epsilon=state.epsilon,
        delta=state.delta,
        order=state.order,
        committed=state.committed / units,
        reserved=state.reserved / units,
        left=state.left / units,
        charges=tuple(
            Line(
                f"{each.subject.kind}/{each.subject.namespace}/{each.subject.name}",
                describe(each.mechanism),
                each.status.capitalize(),
                each.cost / units,
            )
            for each in charges
        ),
        fit=_fit(state.left, state.order, state.delta, _shape(budget, state)),
        history=tuple(
            Point(each.time, each.state.committed / units, each.state.reserved / units)
            for each in replayed.moments
        ),
        ended=state.tombstoned,
    )


def of_status(name: str, budget: PrivacyBudget) -> Account | None:
    """From the status alone; None while it shows no figures."""
    spec, status = budget.spec, budget.status
    if status is None or status.shares is None or status.gate_order is None:
        return None
    order, limit = status.gate_order, spec.limit
    units = rho(Decimal(limit.epsilon), Decimal(limit.delta), order)
    shares = status.shares
    left = int((Decimal(shares.left) * units).to_integral_value(ROUND_FLOOR))
    return Account(
        name=name,
        epsilon=limit.epsilon,
        delta=limit.delta,
        order=order,
        committed=float(shares.committed),
        reserved=float(shares.reserved),
        left=float(shares.left),
        charges=tuple(
            Line(each.subject, each.mechanism, each.state, float(each.share))
            for each in reversed(status.charges)
        ),
        fit=_fit(left, order, limit.delta, _shape(budget, None)),
    )


def describe(mechanism: Mechanism) -> str:
    """A mechanism in words."""
    noise = f"noise {mechanism.noiseMultiplier}"
    if isinstance(mechanism, PoissonSubsampledGaussian):
        return f"DP-SGD, batch {mechanism.batch}, {mechanism.steps} steps, {noise}"
    return f"histogram, {noise}"


def _shape(budget: PrivacyBudget | None, state: LedgerState | None) -> tuple[int, int, int]:
    """(records, batch, steps) of the training that fits are told for.

    That of the budget's plan, else that of the last training charged, else the default one.
    """
    if budget is not None:
        records = budget.spec.dataset.records
        plan = budget.spec.plan
        if plan is not None and plan.trainings:
            training = plan.trainings[0]
            return records, min(training.batch_size, records), training.steps
    last = _last_training(state) if state else None
    if last is not None:
        return last.records, last.batch, last.steps
    if budget is not None:
        records = budget.spec.dataset.records
    elif state is not None and state.data is not None:
        records = state.data.records
    else:
        records = DEFAULT_BATCH
    return records, min(DEFAULT_BATCH, records), DEFAULT_STEPS


def _last_training(state: LedgerState) -> PoissonSubsampledGaussian | None:
    newest: Sequence[Mechanism] = [each.mechanism for each in state.latest(len(state.charges))]
    return next((each for each in newest if isinstance(each, PoissonSubsampledGaussian)), None)


def _fit(left: int, order: int, delta: str, shape: tuple[int, int, int]) -> Fit:
    records, batch, steps = shape
    return Fit(
        batch=batch,
        steps=steps,
        epsilon=largest_epsilon_that_fits(left, order, delta, records, batch, steps),
        histogram_noise=histogram_noise_that_fits(left, order),
    )
