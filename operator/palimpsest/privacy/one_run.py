"""A lower bound on epsilon from one training run (Steinke, Nasr and Jagielski 2023, "One Run").

Of m public canaries each was in the data by a fair coin of its own. The auditor guesses r of the
coins, r fixed beforehand, from what (epsilon, delta)-DP released. The more guesses are right, the
larger epsilon must be. Neighbours: one canary in or out. arXiv 2305.08846.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal, localcontext

MAX_CANARIES = 100_000
_PRECISE = Context(prec=60, rounding=ROUND_HALF_EVEN, Emin=MIN_EMIN, Emax=MAX_EMAX)
# Beyond what 60 digits can be wrong by after MAX_CANARIES factors: p-values are rounded up.
_UP = _PRECISE.add(1, Decimal("1e-40"))
_STEPS_TO_ONE = 1000
_LARGEST = 40 * _STEPS_TO_ONE
# Standard deviations of slack: one audit in 740 of a noiseless loop makes a wrong guess for it.
_SLACK = 3
_HIDDEN = Decimal("0.001")


@dataclass(frozen=True, slots=True)
class Guesses:
    """How many canaries are guessed to be in, and how many out; the auditor abstains on the rest.

    Public numbers alone decide, or the bound would not hold.
    """

    included: int
    excluded: int

    @property
    def total(self) -> int:
        """r."""
        return self.included + self.excluded


def guesses_for(canaries: int, batch: int, records: int, steps: int) -> Guesses:
    """As many guesses as a loop without noise lets an auditor get right.

    A canary that is in shows only if a step samples it (rate batch / records). So the guesses "in"
    stay three standard deviations below the expected number of canaries that show, the guesses
    "out" below that of canaries left out, and below what would meet one that is in but never shows
    with more than a chance of 1/1000. Raises ValueError unless 1 <= batch <= records, steps >= 1.
    """
    if not (1 <= batch <= records and steps >= 1 and 0 <= canaries <= MAX_CANARIES):
        raise ValueError("one of canaries, batch, records and steps is out of bounds")
    with localcontext(_PRECISE):
        unseen = (1 - Decimal(batch) / records) ** steps if batch < records else Decimal(0)
        shown, half = (1 - unseen) / 2, Decimal("0.5")
        included = _surely(canaries, shown)
        excluded = _surely(canaries, half)
        if unseen:
            excluded = min(excluded, int(_HIDDEN * (1 - shown) / (unseen / 2)))
    return Guesses(included, excluded)


def _surely(count: int, chance: Decimal) -> int:
    """What a binomial number stays below by _SLACK standard deviations only."""
    return max(0, int(count * chance - _SLACK * (count * chance * (1 - chance)).sqrt()))


def p_value(correct: int, guesses: int, canaries: int, epsilon: Decimal, delta: Decimal) -> Decimal:
    """How likely `correct` or more right guesses are at most under (epsilon, delta)-DP, rounded up.

    Theorem 5.2 and appendix D: P[W >= v] + 2 m delta max over i of P[v > W >= v - i] / i, with W
    binomial of r trials and chance 1 / (1 + e^-epsilon). May exceed 1. Raises ValueError for
    figures out of bounds.
    """
    if not 0 <= correct <= guesses <= canaries <= MAX_CANARIES:
        raise ValueError("need correct <= guesses <= canaries, at most 100,000")
    if not (epsilon.is_finite() and epsilon >= 0 and delta.is_finite() and 0 <= delta <= 1):
        raise ValueError("need epsilon >= 0 and delta from 0 to 1")
    with localcontext(_PRECISE):
        odds = (-epsilon).exp()
        mass = (1 + odds) ** -guesses
        tail = Decimal(0)
        for right in range(guesses, correct - 1, -1):
            tail += mass
            mass *= odds * right / (guesses - right + 1)
        average = _largest_average(mass, odds, correct, guesses) if delta else Decimal(0)
        return (tail + 2 * canaries * delta * average) * _UP


def _largest_average(mass: Decimal, odds: Decimal, correct: int, guesses: int) -> Decimal:
    """Largest mean of P[W = k] over k from v - i to v - 1; `mass` is P[W = v - 1]."""
    below = most = Decimal(0)
    for width in range(1, correct + 1):
        below += mass
        most = max(most, below / width)
        # No wider mean is above 1 / width.
        if most * (width + 1) >= 1:
            break
        right = correct - width
        mass *= odds * right / (guesses - right + 1)
    return most


def refutes(
    correct: int,
    guesses: int,
    canaries: int,
    epsilon: Decimal,
    delta: Decimal,
    confidence: Decimal,
) -> bool:
    """Whether so many right guesses say that the run was not (epsilon, delta)-DP.

    Of runs that were, a share of at most 1 - `confidence` is refuted. Raises ValueError.
    """
    # Below that the p-value need not fall with the number of right guesses.
    if not Decimal("0.8") <= confidence < 1:
        raise ValueError("confidence: must be at least 0.8 and below 1")
    return p_value(correct, guesses, canaries, epsilon, delta) <= 1 - confidence


def lower_bound(
    correct: int, guesses: int, canaries: int, delta: Decimal, confidence: Decimal
) -> Decimal:
    """The largest epsilon in thousandths that is refuted at `delta`; 0 where none is.

    It never overstates: what is returned is refuted, and with it all below. Raises ValueError.
    """

    def refuted(thousandths: int) -> bool:
        epsilon = Decimal(thousandths) / _STEPS_TO_ONE
        return refutes(correct, guesses, canaries, epsilon, delta, confidence)

    return Decimal(_last(refuted, 0, _LARGEST)) / _STEPS_TO_ONE


def largest_bound(guesses: int, canaries: int, delta: Decimal, confidence: Decimal) -> Decimal:
    """The bound that errorless guesses would give: beyond it no claim can be put to the test."""
    return lower_bound(guesses, guesses, canaries, delta, confidence)


def has_power(
    guesses: int, canaries: int, epsilon: Decimal, delta: Decimal, confidence: Decimal
) -> bool:
    """Whether errorless guesses would refute the claim."""
    return refutes(guesses, guesses, canaries, epsilon, delta, confidence)


def errorless_guesses(epsilon: Decimal, confidence: Decimal) -> int | None:
    """How many guesses, all right, refute (epsilon, 0)-DP; None where MAX_CANARIES do not."""

    def short(guesses: int) -> bool:
        return not has_power(guesses, guesses, epsilon, Decimal(0), confidence)

    return _beyond(short)


def canaries_for(
    batch: int, records: int, steps: int, epsilon: Decimal, delta: Decimal, confidence: Decimal
) -> int | None:
    """How many canaries give power at the claim; None where MAX_CANARIES do not."""

    def short(canaries: int) -> bool:
        guesses = guesses_for(canaries, batch, records, steps).total
        return not has_power(guesses, canaries, epsilon, delta, confidence)

    return _beyond(short)


def _beyond(short: Callable[[int], bool]) -> int | None:
    last = _last(short, 0, MAX_CANARIES + 1)
    return last + 1 if last < MAX_CANARIES else None


def _last(holds: Callable[[int], bool], low: int, high: int) -> int:
    """Where `holds` ends, between `low` (taken to hold) and `high` (taken not to)."""
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low
