"""Shares of the gate: rounded so that nothing looks cheaper than it is."""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from palimpsest.ledger.state import LedgerState

STEP = Decimal("0.0001")


def spent_share(ledger: LedgerState, cost: int) -> str:
    """`cost` as a part of the gate, four decimals, rounded up."""
    return str(_share(ledger, cost).quantize(STEP, rounding=ROUND_CEILING))


def left_share(ledger: LedgerState) -> str:
    """What is left of the gate, four decimals, rounded down."""
    return str(_share(ledger, ledger.left).quantize(STEP, rounding=ROUND_FLOOR))


def _share(ledger: LedgerState, cost: int) -> Decimal:
    return Decimal(cost) / Decimal(ledger.limit_units)
