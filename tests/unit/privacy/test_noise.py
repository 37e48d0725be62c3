"""The search of a noise multiplier: exact on its grid, from any first guess, in few looks."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from palimpsest.privacy.mechanisms import MAX_NOISE
from palimpsest.privacy.noise import LEAST, STEP, least_noise

TICKS = st.integers(int(LEAST / STEP), int(MAX_NOISE / STEP))


def power(noise: str) -> float:
    return float(noise) ** -2


@pytest.mark.parametrize(
    "shape", ["cliff", "power", "hair", "fraction", "tail of zeros", "whole", "never"]
)
@settings(max_examples=40, deadline=None)
@given(at=TICKS, near=TICKS | st.none())
@example(at=int(LEAST / STEP), near=None)
@example(at=int(MAX_NOISE / STEP), near=int(LEAST / STEP))
@example(at=int(LEAST / STEP) + 1, near=int(MAX_NOISE / STEP))
def test_the_answer_is_the_first_that_holds_whatever_the_cost_and_the_guess(
    shape: str, at: int, near: int | None
) -> None:
    edge = at * STEP

    def cost(noise: str) -> int | float | Fraction:
        over = Decimal(noise) < edge
        match shape:
            case "cliff":
                return float("inf") if over else 1.0
            case "power":
                return float(edge / Decimal(noise))
            case "hair":
                # As floats the two are the same.
                return 2**60 + 1 if over else 2**60
            case "fraction":
                return Fraction(edge) / Fraction(noise)
            case "tail of zeros":
                return float(edge / Decimal(noise)) + 0.5 if over else 0.0
            case "whole":
                return int(10**15 * (edge / Decimal(noise)) ** 2) + 1 if over else 10**15 - 1
            case _:
                return 2

    most = {"hair": 2**60, "whole": 10**15}.get(shape, 1)
    guess = None if near is None else str(near * STEP)
    found = least_noise(cost, most, guess)
    assert found is None if shape == "never" else Decimal(found or 0) == edge


def test_a_power_takes_few_looks() -> None:
    """A bisection of the same bracket would take twenty."""
    looked: list[str] = []

    def cost(noise: str) -> float:
        looked.append(noise)
        return power(noise)

    assert least_noise(cost, power("1.23456")) == "1.23456"
    assert len(looked) <= 8
    looked.clear()
    assert least_noise(cost, power("1.23456"), near="1.24") == "1.23456"
    assert len(looked) <= 6
