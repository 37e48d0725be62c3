"""Counts what becomes of charges, from the entries of their journals."""

from palimpsest.ledger.entries import Body, Commit, Release, Reserve, Start
from palimpsest.ledger.journal import Watcher
from palimpsest.ledger.state import LedgerState
from palimpsest.telemetry import budgets


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
