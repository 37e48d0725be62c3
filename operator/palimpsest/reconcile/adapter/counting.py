"""Counts what becomes of charges, from their journals, and of attempts, from statuses."""

from palimpsest.ledger.entries import Body, Commit, Release, Reserve, Start
from palimpsest.ledger.journal import Watcher
from palimpsest.ledger.state import LedgerState
from palimpsest.reconcile.measures import Ended
from palimpsest.telemetry import budgets, stages
from palimpsest.telemetry.resources import Object


class ChargeCounter(Watcher):
    """Of one journal. What stood in it at first is history, and not counted."""

    def __init__(self) -> None:
        self._counts = False

    def begin(self) -> None:
        """What comes from here on is news."""
        self._counts = True

    def entry(self, body: Body, state: LedgerState) -> None:
        """Count it if it changes what a charge is."""
        if not self._counts or not isinstance(body, Reserve | Start | Commit | Release):
            return
        if isinstance(body, Start) and body.attempt > 1:
            return
        charge = state.charge(body.charge)
        budgets.charge(charge.mechanism.kind, charge.status)
        if charge.basis is not None:
            budgets.commit(charge.mechanism.kind, charge.basis)

    def conflict(self) -> None:
        """Count a lost race."""
        budgets.conflict()


class AttemptCounter:
    """Of all resources. A stage's last end is remembered: a store that comes and goes makes a
    status tell of it anew."""

    def __init__(self) -> None:
        self._last: dict[Object, dict[str, str]] = {}

    def count(self, thing: Object, attempt: Ended) -> bool:
        """An attempt ended; whether that is news."""
        known = self._last.setdefault(thing, {})
        if known.get(attempt.stage) == attempt.at:
            return False
        known[attempt.stage] = attempt.at
        if attempt.reason:
            stages.failed(attempt.stage, attempt.reason, attempt.seconds)
        elif attempt.seconds is not None:
            stages.succeeded(attempt.stage, attempt.seconds)
        return True

    def forget(self, thing: Object) -> None:
        """It is gone."""
        self._last.pop(thing, None)
