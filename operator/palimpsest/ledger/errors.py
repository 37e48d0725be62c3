"""Why the ledger says no. In the ledger doubt denies: nothing here is ever a grant."""


class LedgerError(Exception):
    """An entry, an operation or a journal is not acceptable; the message names what and why."""


class Denied(LedgerError):  # noqa: N818 - the ledger's word for it
    """A reservation does not fit; the message says what is left."""


class JournalTampered(LedgerError):  # noqa: N818 - a finding, not a fault
    """The journal contradicts itself or what was remembered of it."""


class JournalShortened(JournalTampered):
    """An entry that is remembered is no longer there."""


class EntryChanged(JournalTampered):
    """An entry is not the one that is remembered."""
