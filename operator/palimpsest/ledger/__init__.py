"""The ledger: a hash-chained journal in the data's own bucket that cannot be overspent."""

from palimpsest.ledger.entries import DataIdentity, LimitBody, Subject
from palimpsest.ledger.errors import (
    Denied,
    EntryChanged,
    JournalShortened,
    JournalTampered,
    LedgerError,
)
from palimpsest.ledger.identity import charge_id
from palimpsest.ledger.journal import Journal
from palimpsest.ledger.reading import LastEntry, last_entry
from palimpsest.ledger.state import Charge, Head, LedgerState

__all__ = [
    "Charge",
    "DataIdentity",
    "Denied",
    "EntryChanged",
    "Head",
    "Journal",
    "JournalShortened",
    "JournalTampered",
    "LastEntry",
    "LedgerError",
    "LedgerState",
    "LimitBody",
    "Subject",
    "charge_id",
    "last_entry",
]
