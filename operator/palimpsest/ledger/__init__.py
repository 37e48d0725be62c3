"""The ledger: a hash-chained journal in the data's own bucket that cannot be overspent."""

from palimpsest.ledger.entries import DataIdentity, LimitBody, Subject
from palimpsest.ledger.errors import Denied, JournalTampered, LedgerError
from palimpsest.ledger.identity import charge_id
from palimpsest.ledger.journal import Journal
from palimpsest.ledger.state import Charge, Head, LedgerState

__all__ = [
    "Charge",
    "DataIdentity",
    "Denied",
    "Head",
    "Journal",
    "JournalTampered",
    "LedgerError",
    "LedgerState",
    "LimitBody",
    "Subject",
    "charge_id",
]
