"""Noise for an epsilon, and what still fits."""

import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from palimpsest.privacy.accountant import epsilon_rdp
from palimpsest.privacy.calibration import (
    CalibrationError,
    calibrate_noise,
    largest_epsilon_that_fits,
    noise_that_fits,
    steps_that_fit,
    worst_case_steps,
)
from palimpsest.privacy.gate import cost_of_steps, renyi_cost, rho
from palimpsest.privacy.mechanisms import PoissonSubsampledGaussian

ALLOWED = rho(Decimal(8), Decimal("1e-6"), 4)


def training(noise: str, batch: int, records: int, steps: int) -> PoissonSubsampledGaussian:
    return PoissonSubsampledGaussian(
        batch=batch, records=records, noiseMultiplier=noise, steps=steps
    )


@settings(max_examples=60, deadline=None)
@given(
    epsilon=st.decimals("0.3", "12", places=2),
    records=st.integers(1_000, 10_000_000),
    rate=st.floats(0.001, 0.5),
    steps=st.integers(1, 5_000),
    delta=st.sampled_from(["1e-5", "5e-7", "1e-9"]),
)
def test_lands_at_or_just_below_the_target(
    epsilon: Decimal, records: int, rate: float, steps: int, delta: str
) -> None:
    batch = max(1, int(rate * records))
    try:
        noise = calibrate_noise(epsilon, delta, records, batch, steps)
    except CalibrationError:
        # So few and small steps that hardly any noise is needed.
        noise = "0.3"
    reached, _ = epsilon_rdp([training(noise, batch, records, steps)], float(delta))
    assert reached <= float(epsilon)
    assert reached >= float(epsilon) * 0.995 or noise == "0.3"


def test_the_designs_noise() -> None:
    assert float(calibrate_noise("4", "1e-6", 180_000, 4096, 440)) == pytest.approx(
        0.987, abs=0.0005
    )


def test_calibrates_within_a_requests_patience() -> None:
    seconds = []
    for index in range(20):
        began = time.perf_counter()
        calibrate_noise("4", "1e-6", 180_000 + index, 4096, 440)
        seconds.append(time.perf_counter() - began)
    assert sorted(seconds)[len(seconds) // 2] < 0.1


def test_the_largest_epsilon_fits_and_the_next_does_not() -> None:
    left = ALLOWED // 5
    answer = largest_epsilon_that_fits(left, 4, "1e-6", 180_000, 4096, 440)
    assert answer is not None

    def cost(epsilon: Decimal) -> int:
        noise = calibrate_noise(epsilon, "1e-6", 180_000, 4096, 440)
        return renyi_cost(training(noise, 4096, 180_000, 440), 4)

    assert cost(Decimal(answer)) <= left
    assert cost(Decimal(answer) + Decimal("0.01")) > left


def test_the_least_noise_fits_and_less_does_not() -> None:
    noise = noise_that_fits(ALLOWED // 3, 4, 180_000, 4096, 440)
    assert noise is not None
    less = str(Decimal(noise) - Decimal("0.00001"))
    assert renyi_cost(training(noise, 4096, 180_000, 440), 4) <= ALLOWED // 3
    assert renyi_cost(training(less, 4096, 180_000, 440), 4) > ALLOWED // 3


def test_the_most_steps_fit_and_one_more_does_not() -> None:
    step = training("1", 4096, 180_000, 1)
    steps = steps_that_fit(ALLOWED, 4, "1", 180_000, 4096)
    assert cost_of_steps(step, steps, 4) <= ALLOWED < cost_of_steps(step, steps + 1, 4)


def test_nothing_left_fits_nothing() -> None:
    assert largest_epsilon_that_fits(0, 4, "1e-6", 180_000, 4096, 440) is None
    assert steps_that_fit(0, 4, "1", 180_000, 4096) == 0


def test_each_restart_may_repeat_an_interval() -> None:
    assert worst_case_steps(24, 2, 8) == 40


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"epsilon": "0.29"}, "epsilon"),
        ({"epsilon": "NaN"}, "epsilon"),
        ({"epsilon": "Infinity"}, "epsilon"),
        ({"epsilon": "1000000"}, "at most"),
        ({"delta": "0"}, "delta"),
        ({"delta": "1"}, "delta"),
        ({"delta": "NaN"}, "delta"),
        ({"records": 0}, "records"),
        ({"batch": 0}, "batch"),
        ({"batch": 180_001}, "batch"),
        ({"steps": 0}, "steps"),
        ({"steps": 10_000_001}, "steps"),
    ],
)
def test_bad_questions_name_the_field(change: dict[str, Any], named: str) -> None:
    question: dict[str, Any] = {
        "epsilon": "4",
        "delta": "1e-6",
        "records": 180_000,
        "batch": 4096,
        "steps": 440,
        **change,
    }
    with pytest.raises(CalibrationError, match=named):
        calibrate_noise(**question)
