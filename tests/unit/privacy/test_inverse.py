"""What still fits: every answer is granted, and its neighbour on the grid is not."""

from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from palimpsest.privacy.calibration import CalibrationError, calibrate_noise
from palimpsest.privacy.gate import cost_of_steps, renyi_cost, rho
from palimpsest.privacy.inverse import (
    histogram_noise_that_fits,
    largest_epsilon_that_fits,
    noise_that_fits,
    steps_that_fit,
    times_that_fit,
)
from palimpsest.privacy.mechanisms import DiscreteGaussian, PoissonSubsampledGaussian

DELTA = "1e-6"
ALLOWED = rho(Decimal(8), Decimal(DELTA), 4)
TICK = Decimal("0.00001")

SIZES = given(
    share=st.floats(0.001, 1),
    order=st.sampled_from([2, 3, 4, 8, 17]),
    records=st.integers(1_000, 1_000_000),
    rate=st.floats(0.001, 0.3),
    steps=st.integers(1, 2_000),
)


def training(noise: str, batch: int, records: int, steps: int) -> PoissonSubsampledGaussian:
    return PoissonSubsampledGaussian(
        batch=batch, records=records, noiseMultiplier=noise, steps=steps
    )


def less(noise: str) -> str:
    return str(Decimal(noise) - TICK)


@settings(max_examples=25, deadline=None)
@SIZES
def test_the_least_noise_fits_and_less_does_not(
    share: float, order: int, records: int, rate: float, steps: int
) -> None:
    left, batch = int(share * ALLOWED), max(1, int(rate * records))
    noise = noise_that_fits(left, order, records, batch, steps)
    assert noise is not None
    assert renyi_cost(training(noise, batch, records, steps), order) <= left
    assert noise == "0.3" or (
        renyi_cost(training(less(noise), batch, records, steps), order) > left
    )


@settings(max_examples=25, deadline=None)
@given(share=st.floats(1e-6, 1), order=st.integers(2, 64))
def test_the_least_noise_of_a_histogram(share: float, order: int) -> None:
    left = int(share * ALLOWED)
    noise = histogram_noise_that_fits(left, order)
    assert noise is not None
    # In closed form: order / (2 noise^2) nats.
    exact = (order / (2 * left / 1e15)) ** 0.5
    assert float(noise) == pytest.approx(max(0.3, exact), abs=1.1e-5, rel=1e-9)
    assert renyi_cost(DiscreteGaussian(noiseMultiplier=noise), order) <= left


@settings(max_examples=15, deadline=None)
@example(share=0.921875, order=2, records=1235, rate=0.015625, steps=257)
@SIZES
def test_the_largest_epsilon_is_granted_and_the_next_is_not(
    share: float, order: int, records: int, rate: float, steps: int
) -> None:
    left, batch = int(share * ALLOWED), max(1, int(rate * records))
    answer = largest_epsilon_that_fits(left, order, DELTA, records, batch, steps)

    def fits(epsilon: Decimal) -> bool:
        try:
            noise = calibrate_noise(epsilon, DELTA, records, batch, steps)
        except CalibrationError:
            return False
        return renyi_cost(training(noise, batch, records, steps), order) <= left

    if answer is None:
        assert not fits(Decimal("0.3"))
    else:
        assert fits(Decimal(answer))
        assert not fits(Decimal(answer) + Decimal("0.01"))


def test_the_most_steps_fit_and_one_more_does_not() -> None:
    step = training("1", 4096, 180_000, 1)
    steps = steps_that_fit(ALLOWED, 4, "1", 180_000, 4096)
    assert cost_of_steps(step, steps, 4) <= ALLOWED < cost_of_steps(step, steps + 1, 4)


def test_how_often_it_fits() -> None:
    assert [times_that_fit(left, 5) for left in (0, 4, 5, 14)] == [0, 0, 1, 2]


def test_nothing_left_fits_nothing() -> None:
    assert noise_that_fits(0, 4, 180_000, 4096, 440) is None
    assert histogram_noise_that_fits(0, 4) is None
    assert largest_epsilon_that_fits(0, 4, DELTA, 180_000, 4096, 440) is None
    assert steps_that_fit(0, 4, "1", 180_000, 4096) == 0
