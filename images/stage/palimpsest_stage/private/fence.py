"""The journal as a private stage uses it: no record is read but behind an accepted start."""

from datetime import UTC, datetime

from palimpsest.api.task import ChargeRef
from palimpsest.ledger import Charge, Journal
from palimpsest.privacy.mechanisms import Mechanism
from palimpsest.storage import S3Store

from palimpsest_stage.errors import ChargeRefused, InvalidTask


class Fence:
    """One attempt's way through the journal. Every refusal is a LedgerError."""

    def __init__(self, store: S3Store, charge: ChargeRef, attempt: int) -> None:
        self._journal = Journal(store, charge.journal, _hour)
        self._id, self._attempt = charge.id, attempt
        self.intended_steps = self.earlier_attempts = 0

    def start(self, mechanism: Mechanism, restarts: int = 0, block_steps: int = 1) -> Charge:
        """Append this attempt's start. Raises InvalidTask unless just this was reserved."""
        charge = self._journal.refresh().charge(self._id)
        reserved = (charge.mechanism, charge.restarts, charge.block_steps)
        if reserved != (mechanism, restarts, block_steps):
            raise InvalidTask("the journal reserved another mechanism than the task would run")
        # Up to its start, and not after it, an earlier attempt may have gone on.
        charge = self._journal.start(self._id, self._attempt)
        self.intended_steps, self.earlier_attempts = charge.intended_steps, charge.attempts - 1
        return charge

    def intent(self, block: int, steps: int) -> None:
        """Append the intent to execute a block; call it before."""
        self._journal.intent(self._id, self._attempt, block, steps)


def _hour() -> datetime:
    """The hour that has begun: how long a step takes may depend on records, so no entry tells it.

    It may lie before the operator's own entries, whose order is that of their numbers.
    """
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def check_paid(done: int, intended_steps: int) -> None:
    """Refuse steps that custody keeps the result of and the journal has no intent for.

    Raises ChargeRefused.
    """
    if done > intended_steps:
        raise ChargeRefused(
            f"custody keeps the result of {done} steps, but the journal intends {intended_steps}: "
            "what it does not name is not paid for. See with `palimpsest verify` whether it was "
            "cut; to run and pay anew, create the resource under another name"
        )
