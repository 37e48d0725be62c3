"""What a budget spent, by two accountants. The figures a receipt shows beside its guarantee."""

from collections import Counter
from decimal import ROUND_CEILING, Decimal

from palimpsest.ledger.state import Charge, LedgerState
from palimpsest.privacy.accountant import AccountantError, epsilon_pld, epsilon_rdp
from palimpsest.privacy.mechanisms import (
    MAX_STEPS,
    Mechanism,
    PoissonSubsampledGaussian,
    one_step,
    worst_steps,
)
from palimpsest.receipts.statement import Spent

STEP = Decimal("0.0001")


def spent(ledger: LedgerState) -> Spent:
    """Epsilon of all committed charges at the budget's delta, rounded up to four decimals.

    Rényi in this process; privacy loss distributions in one of their own, null where that cannot
    answer. Takes seconds, at most two minutes.
    """
    mechanisms = committed(ledger)
    delta = float(ledger.delta)
    epsilon, order = epsilon_rdp(mechanisms, delta)
    try:
        second = _up(epsilon_pld(mechanisms, delta))
    except AccountantError:
        second = None
    return Spent(
        epsilon_rdp=_up(epsilon), order_rdp=f"{order:g}", epsilon_pld=second, delta=ledger.delta
    )


def committed(ledger: LedgerState) -> list[Mechanism]:
    """What the committed charges ran: the steps intended, or in doubt all that were reserved.

    Steps of equal rate and noise are one mechanism: that composes to the same and is faster.
    """
    steps: Counter[Mechanism] = Counter()
    single: list[Mechanism] = []
    for charge in sorted(ledger.charges.values(), key=lambda charge: charge.reserved):
        if charge.status != "committed":
            continue
        ran = _steps(charge)
        if not ran:
            continue
        if isinstance(charge.mechanism, PoissonSubsampledGaussian):
            steps[one_step(charge.mechanism)] += ran
        else:
            single.append(charge.mechanism)
    together: list[Mechanism] = []
    for mechanism, total in steps.items():
        whole, rest = divmod(total, MAX_STEPS)
        parts = [MAX_STEPS] * whole + ([rest] if rest else [])
        together += [mechanism.model_copy(update={"steps": part}) for part in parts]
    return together + single


def _steps(charge: Charge) -> int:
    if charge.basis != "full":
        return charge.intended_steps
    return worst_steps(charge.mechanism)


def _up(epsilon: float) -> str:
    return str(Decimal(epsilon).quantize(STEP, rounding=ROUND_CEILING))
