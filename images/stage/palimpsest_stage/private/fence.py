"""The journal as a private stage uses it: no record is read but behind an accepted start."""

from palimpsest.api.task import ChargeRef
from palimpsest.ledger import Charge, Journal
from palimpsest.privacy.mechanisms import Mechanism
from palimpsest.storage import S3Store

from palimpsest_stage.errors import InvalidTask


class Fence:
    """One attempt's way through the journal. Every refusal is a LedgerError."""

    def __init__(self, store: S3Store, charge: ChargeRef, attempt: int) -> None:
        self._journal = Journal(store, charge.journal)
        self._id, self._attempt = charge.id, attempt
        self.intended_steps = self.earlier_attempts = 0

    def start(self, mechanism: Mechanism, restarts: int = 0, block_steps: int = 1) -> Charge:
        """Append this attempt's start. Raises InvalidTask unless just this was reserved."""
        charge = self._journal.refresh().charge(self._id)
        reserved = (charge.mechanism, charge.restarts, charge.block_steps)
        if reserved != (mechanism, restarts, block_steps):
            raise InvalidTask("the journal reserved another mechanism than the task would run")
        self.intended_steps, self.earlier_attempts = charge.intended_steps, charge.attempts
        return self._journal.start(self._id, self._attempt)

    def intent(self, block: int, steps: int) -> None:
        """Append the intent to execute a block; call it before."""
        self._journal.intent(self._id, self._attempt, block, steps)
