"""The lower bound from one run: the paper's figures, exact arithmetic, coverage, monotony."""

import math
import random
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from palimpsest.privacy.one_run import (
    MAX_CANARIES,
    Guesses,
    canaries_for,
    errorless_guesses,
    guesses_for,
    has_power,
    largest_bound,
    lower_bound,
    p_value,
    refutes,
)

CONFIDENCE = Decimal("0.95")
DELTA = Decimal("1e-5")
STEP = Decimal("0.001")
CONFIDENCES = st.sampled_from([Decimal("0.8"), CONFIDENCE, Decimal("0.999")])
DELTAS = st.sampled_from([Decimal(0), Decimal("1e-6"), Decimal("1e-3")])


@pytest.mark.parametrize(("claim", "guesses"), [(3, 62), (8, 8932)])
def test_the_errorless_guesses_that_refute_a_claim(claim: int, guesses: int) -> None:
    assert errorless_guesses(Decimal(claim), CONFIDENCE) == guesses
    none = Decimal(0)
    assert has_power(guesses, guesses, Decimal(claim), none, CONFIDENCE)
    assert not has_power(guesses - 1, guesses - 1, Decimal(claim), none, CONFIDENCE)


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct", "delta", "bound"),
    [
        # Appendix D, and section 7 with figure 11: 0.673 and 2.675.
        (1000, 100, 75, "1e-4", "0.672"),
        (100_000, 1510, 1439, "1e-5", "2.675"),
    ],
)
def test_the_papers_own_figures(
    canaries: int, guesses: int, correct: int, delta: str, bound: str
) -> None:
    found = lower_bound(correct, guesses, canaries, Decimal(delta), CONFIDENCE)
    assert found == Decimal(bound)


def exact(correct: int, guesses: int, canaries: int, odds: int, delta: Fraction) -> Fraction:
    """The theorem word for word at e^epsilon = `odds`, in rational numbers."""
    right = Fraction(odds, odds + 1)
    mass = [
        math.comb(guesses, k) * right**k * (1 - right) ** (guesses - k) for k in range(guesses + 1)
    ]
    zero = Fraction(0)
    means = [sum(mass[correct - i : correct], zero) / i for i in range(1, correct + 1)]
    return sum(mass[correct:], zero) + 2 * canaries * delta * max(means, default=zero)


@settings(max_examples=150, deadline=None)
@given(
    guesses=st.integers(0, 40),
    share=st.floats(0, 1),
    more=st.integers(0, 30),
    odds=st.integers(1, 40),
    delta=st.fractions(0, Fraction(1, 100)),
)
def test_the_p_value_is_the_theorems_and_never_below_it(
    guesses: int, share: float, more: int, odds: int, delta: Fraction
) -> None:
    correct = round(share * guesses)
    chance = Decimal(delta.numerator) / delta.denominator
    found = p_value(correct, guesses, guesses + more, Decimal(odds).ln(), chance)
    true = exact(correct, guesses, guesses + more, odds, Fraction(chance))
    # Epsilon itself, ln of a whole number, is rounded to 28 digits here.
    assert Fraction(found) >= true * (1 - Fraction(1, 10**25))
    assert Fraction(found) <= true * (1 + Fraction(1, 10**25))


def test_the_p_value_is_rounded_up() -> None:
    for guesses in (1, 62, 1000):
        found = p_value(guesses, guesses, guesses, Decimal(0), Decimal(0))
        assert Fraction(found) > Fraction(1, 2**guesses)


@settings(max_examples=100, deadline=None)
@given(
    guesses=st.integers(1, 120),
    share=st.floats(0.4, 1),
    more=st.integers(0, 100),
    delta=DELTAS,
    confidence=CONFIDENCES,
)
def test_the_bound_is_refuted_and_the_next_thousandth_is_not(
    guesses: int, share: float, more: int, delta: Decimal, confidence: Decimal
) -> None:
    given_ = round(share * guesses), guesses, guesses + more
    bound = lower_bound(*given_, delta, confidence)
    assert bound == 0 or refutes(*given_, bound, delta, confidence)
    assert not refutes(*given_, bound + STEP, delta, confidence)


@settings(max_examples=100, deadline=None)
@given(
    guesses=st.integers(2, 120),
    share=st.floats(0.4, 1),
    more=st.integers(1, 100),
    delta=DELTAS,
    confidence=CONFIDENCES,
)
def test_more_right_guesses_never_lower_it_and_more_doubt_never_raises_it(
    guesses: int, share: float, more: int, delta: Decimal, confidence: Decimal
) -> None:
    correct, canaries = round(share * (guesses - 1)), guesses + more
    bound = lower_bound(correct, guesses, canaries, delta, confidence)
    assert bound <= lower_bound(correct + 1, guesses, canaries, delta, confidence)
    assert bound <= largest_bound(guesses, canaries, delta, confidence)
    # A wrong guess more, a larger delta, a higher confidence, more canaries with the same guesses.
    assert bound >= lower_bound(correct, guesses + 1, canaries, delta, confidence)
    assert bound >= lower_bound(correct, guesses, canaries, 2 * delta + DELTA, confidence)
    assert bound >= lower_bound(correct, guesses, canaries, delta, (1 + confidence) / 2)
    assert bound >= lower_bound(correct, guesses, canaries + 50, delta, confidence)


# Simulated trainings, and the chance that any one of the assertions below fails although the bound
# covers: binomial numbers of 4,000 and chance 1/20 exceed 5.5 standard deviations, 276, with
# probability 4e-8.
RUNS, TOO_MANY = 4_000, 276


def refuted(epsilon: Decimal, delta: Decimal, train: Callable[[random.Random], int]) -> int:
    """How often the bound exceeds what the simulated training gives; 100 guesses of 200."""
    draw, known = random.Random(7), {}
    count = 0
    for _ in range(RUNS):
        correct = train(draw)
        if correct not in known:
            known[correct] = lower_bound(correct, 100, 200, delta, CONFIDENCE) > epsilon
        count += known[correct]
    return count


@pytest.mark.parametrize("epsilon", ["0.5", "1", "3"])
def test_it_covers_the_worst_mechanism_there_is(epsilon: str) -> None:
    # Randomised response: every guess is right with chance e^epsilon / (1 + e^epsilon).
    right = 1 / (1 + math.exp(-float(epsilon)))
    found = refuted(
        Decimal(epsilon), Decimal(0), lambda draw: sum(draw.random() < right for _ in range(100))
    )
    assert found <= TOO_MANY
    # And it is not idle: as many are refuted as there are of the nearest smaller level.
    assert found > 0


def test_it_covers_what_delta_lets_through() -> None:
    # With chance delta everything is told, else a coin a guess.
    delta = 0.01

    def train(draw: random.Random) -> int:
        return 100 if draw.random() < delta else sum(draw.random() < 0.5 for _ in range(100))

    assert refuted(Decimal(0), Decimal(str(delta)), train) <= TOO_MANY


def test_guesses_come_from_public_numbers() -> None:
    # Everybody is in every step: all that are in show, and all that are out.
    assert guesses_for(200, 100, 100, 1) == Guesses(78, 78)
    # One step in sixty: half of those that are in never show, and no "out" is safe.
    assert guesses_for(500, 256, 15_000, 24) == Guesses(59, 0)
    assert guesses_for(200, 1, 1_000_000, 1) == Guesses(0, 0)


@pytest.mark.parametrize("batch", [0, 101])
def test_guesses_need_a_rate(batch: int) -> None:
    with pytest.raises(ValueError, match="out of bounds"):
        guesses_for(200, batch, 100, 1)


@settings(max_examples=60, deadline=None)
@given(
    canaries=st.integers(0, 20_000),
    records=st.integers(1, 1_000_000),
    rate=st.floats(0, 1),
    steps=st.integers(1, 5_000),
)
def test_no_more_guesses_than_canaries(
    canaries: int, records: int, rate: float, steps: int
) -> None:
    batch = max(1, int(rate * records))
    found = guesses_for(canaries, batch, records, steps)
    assert 0 <= found.included + found.excluded <= canaries
    assert found.included <= guesses_for(canaries, batch, records, steps + 1).included
    assert found.included <= guesses_for(canaries + 1, batch, records, steps).included


@pytest.mark.parametrize("claim", ["1", "2.5", "3", "6"])
def test_so_many_canaries_have_power_and_one_fewer_has_not(claim: str) -> None:
    training = 4096, 180_000, 440
    enough = canaries_for(*training, Decimal(claim), DELTA, CONFIDENCE)
    assert enough is not None
    for canaries, power in ((enough, True), (enough - 1, False)):
        guesses = guesses_for(canaries, *training).total
        assert has_power(guesses, canaries, Decimal(claim), DELTA, CONFIDENCE) is power
        assert (largest_bound(guesses, canaries, DELTA, CONFIDENCE) >= Decimal(claim)) is power


def test_a_claim_that_no_number_of_canaries_can_refute() -> None:
    assert canaries_for(256, 15_000, 24, Decimal(10), DELTA, CONFIDENCE) is None
    assert errorless_guesses(Decimal(12), CONFIDENCE) is None


@pytest.mark.parametrize(
    ("correct", "guesses", "canaries", "epsilon", "delta", "confidence"),
    [
        (3, 2, 4, "1", "0", "0.95"),
        (-1, 2, 4, "1", "0", "0.95"),
        (1, 5, 4, "1", "0", "0.95"),
        (1, 2, MAX_CANARIES + 1, "1", "0", "0.95"),
        (1, 2, 4, "-1", "0", "0.95"),
        (1, 2, 4, "NaN", "0", "0.95"),
        (1, 2, 4, "1", "NaN", "0.95"),
        (1, 2, 4, "1", "1.1", "0.95"),
        (1, 2, 4, "1", "0", "1"),
        (1, 2, 4, "1", "0", "0.79"),
        (1, 2, 4, "1", "0", "NaN"),
    ],
)
def test_figures_out_of_bounds_are_errors(
    correct: int, guesses: int, canaries: int, epsilon: str, delta: str, confidence: str
) -> None:
    with pytest.raises((ValueError, ArithmeticError)):
        refutes(correct, guesses, canaries, Decimal(epsilon), Decimal(delta), Decimal(confidence))
