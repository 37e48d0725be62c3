"""The gate: a Rényi filter at one integer order, in exact decimal arithmetic.

A privacy budget (epsilon, delta) allows a Rényi spending rho at the order alpha fixed when the
journal opened; charges add up at that order (Feldman and Zrnic 2021; for concurrent work Haney et
al. 2023). Amounts are integers of 1e-15 nats. Decimal's `exp` and `ln` round correctly and alike on
every machine, so every reader of a journal computes the same integers.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal, DivisionByZero, InvalidOperation
from decimal import Overflow as DecimalOverflow
from functools import lru_cache
from math import comb

from palimpsest.privacy.mechanisms import (
    DiscreteGaussian,
    Mechanism,
    PoissonSubsampledGaussian,
    worst_steps,
)

UNITS_PER_NAT = 10**15
MIN_ORDER = 2
MAX_ORDER = 256

# Steps are priced this much finer than charges, so that rounding up happens once per charge.
_FINE = 10**15
_FINE_PER_NAT = Decimal(UNITS_PER_NAT * _FINE)
# 80 digits leave 30 after the cancellation in A - 1 at the largest noise and smallest rate.
_EXACT = Context(
    prec=80,
    Emax=999_999_999,
    Emin=-999_999_999,
    traps=[InvalidOperation, DivisionByZero, DecimalOverflow],
)


@dataclass(frozen=True, slots=True)
class Limit:
    """What a budget allows: everything released together is (epsilon, delta)-DP."""

    epsilon: Decimal
    delta: Decimal


def check_order(order: int) -> None:
    """Raises ValueError unless the gate knows this order."""
    if not MIN_ORDER <= order <= MAX_ORDER:
        raise ValueError(f"order must be an integer from {MIN_ORDER} to {MAX_ORDER}")


@lru_cache(maxsize=4096)
def rho(epsilon: Decimal, delta: Decimal, order: int) -> int:
    """Units of Rényi spending at `order` that (epsilon, delta) allows, rounded down.

    Solves epsilon = rho + ln(1 - 1/a) - (ln delta + ln a) / (a - 1), the conversion of Canonne,
    Kamath and Steinke 2020, proposition 12. At most 0 when the order suits no such small epsilon.
    """
    check_order(order)
    if not 0 < delta < 1:
        raise ValueError("delta must lie between 0 and 1")
    c, a = _EXACT, Decimal(order)
    shrink = c.ln(c.divide(a - 1, a))
    tail = c.divide(c.add(c.ln(delta), c.ln(a)), a - 1)
    nats = c.add(c.subtract(epsilon, shrink), tail)
    return int((c.multiply(nats, Decimal(UNITS_PER_NAT))).to_integral_value(ROUND_FLOOR, c))


@lru_cache(maxsize=65_536)
def _fine_cost(mechanism_key: tuple[int, int, str], order: int) -> int:
    """Cost of one step at `order` in units of 1e-30 nats, rounded up.

    Mironov, Talwar and Zhang 2019, section 3.3: A = sum_k C(a,k) (1-q)^(a-k) q^k e^((k^2-k)/2s^2),
    cost ln(A) / (a-1). The terms of A - 1 are summed, so that nothing cancels.
    """
    batch, records, noise = mechanism_key
    c, q = _EXACT, _EXACT.divide(Decimal(batch), Decimal(records))
    inverse_variance = c.divide(Decimal(1), c.power(Decimal(noise), 2))
    if batch == records:
        nats = c.divide(c.multiply(Decimal(order), inverse_variance), Decimal(2))
    else:
        growth = c.exp(inverse_variance)
        # Horner-like running values: growth^(k-1), e^((k^2-k)/2s^2), q^k (1-q)^(a-k).
        odds = c.divide(q, c.subtract(Decimal(1), q))
        weight = c.power(c.subtract(Decimal(1), q), order)
        step, factor, excess = Decimal(1), Decimal(1), Decimal(0)
        for k in range(1, order + 1):
            weight = c.multiply(weight, odds)
            factor = c.multiply(factor, step)
            step = c.multiply(step, growth)
            term = c.multiply(c.multiply(Decimal(comb(order, k)), weight), c.subtract(factor, 1))
            excess = c.add(excess, term)
        nats = c.divide(c.ln(c.add(Decimal(1), excess)), Decimal(order - 1))
    # One unit covers the rounding of everything above.
    return int(c.multiply(nats, _FINE_PER_NAT).to_integral_value(ROUND_CEILING, c)) + 1


def cost_of_steps(mechanism: Mechanism, steps: int, order: int) -> int:
    """Units that `steps` steps of the mechanism cost at `order`, never below the truth.

    A histogram is one step. The cost of steps m..n is the difference of two values, so that blocks
    add up to the whole without a rounding of their own.
    """
    check_order(order)
    if steps < 0:
        raise ValueError("steps must not be negative")
    match mechanism:
        case PoissonSubsampledGaussian():
            key = (mechanism.batch, mechanism.records, mechanism.noiseMultiplier)
        case DiscreteGaussian():
            # Rényi a / 2s^2 (Canonne, Kamath and Steinke 2020, proposition 5): as with rate 1.
            key = (1, 1, mechanism.noiseMultiplier)
    return -(-_fine_cost(key, order) * steps // _FINE)


def renyi_cost(mechanism: Mechanism, order: int) -> int:
    """Units that the whole mechanism costs at `order`, never below the truth."""
    return cost_of_steps(mechanism, worst_steps(mechanism), order)


def total_cost(mechanisms: Iterable[Mechanism], order: int) -> int:
    """Units that all mechanisms cost together."""
    return sum(renyi_cost(mechanism, order) for mechanism in mechanisms)


def choose_order(plan: Iterable[Mechanism], limit: Limit) -> int:
    """The integer order at which the plan takes the smallest share of the limit.

    Raises ValueError when no order leaves anything to spend.
    """
    mechanisms = tuple(plan)
    if not mechanisms:
        raise ValueError("plan: name at least one mechanism")
    best: tuple[Decimal, int] | None = None
    worse = 0
    for order in range(MIN_ORDER, MAX_ORDER + 1):
        allowed = rho(limit.epsilon, limit.delta, order)
        if allowed <= 0:
            continue
        share = _EXACT.divide(Decimal(total_cost(mechanisms, order)), Decimal(allowed))
        if best is None or share < best[0]:
            best, worse = (share, order), 0
        else:
            # Shares fall and then rise with the order; a run of rises ends the search.
            worse += 1
            if worse == 16:
                break
    if best is None:
        raise ValueError(
            f"limit: epsilon {limit.epsilon} at delta {limit.delta} leaves nothing to spend at any "
            f"order up to {MAX_ORDER}; raise epsilon"
        )
    return best[1]
