"""Noise for an epsilon."""

import time
from decimal import Decimal
from typing import Any

import dp_accounting
import pytest
from dp_accounting.rdp import RdpAccountant
from hypothesis import example, given, settings
from hypothesis import strategies as st
from palimpsest.privacy.accountant import epsilon_rdp
from palimpsest.privacy.calibration import (
    CalibrationError,
    calibrate_noise,
    worst_case_steps,
)
from palimpsest.privacy.mechanisms import PoissonSubsampledGaussian
from palimpsest.privacy.noise import STEP

DELTAS = st.sampled_from(["1e-5", "5e-7", "1e-9"])


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
    delta=DELTAS,
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


@settings(max_examples=60, deadline=None)
@given(
    epsilon=st.decimals("0.3", "30", places=3),
    delta=st.sampled_from(["1e-9", "1e-5", "1e-3"]),
    records=st.integers(100, 1_000_000),
    rate=st.floats(1e-5, 1),
    steps=st.integers(1, 5_000),
)
# So few steps at such a rate that from some noise on delta alone suffices: epsilon falls to 0.
@example(epsilon=Decimal("0.694"), delta="7.22e-4", records=54_486, rate=1 / 54_486, steps=3)
def test_no_less_noise_reaches_the_epsilon_by_the_whole_grid_of_orders(
    epsilon: Decimal, delta: str, records: int, rate: float, steps: int
) -> None:
    batch = max(1, int(rate * records))
    try:
        noise = calibrate_noise(epsilon, delta, records, batch, steps)
    except ValueError:
        return

    def reached(noise: Decimal) -> float:
        mechanism = training(str(noise), batch, records, steps)
        return epsilon_rdp([mechanism], float(Decimal(delta)))[0]

    aim = float(epsilon * Decimal("0.999"))
    assert reached(Decimal(noise)) <= aim * (1 + 1e-12)
    assert reached(Decimal(noise) - STEP) > aim * (1 - 1e-12)


def dp_accountings(noise: str, batch: int, records: int, steps: int, delta: str) -> float:
    """Epsilon by dp-accounting's Rényi accountant."""
    accountant = RdpAccountant()
    step = dp_accounting.PoissonSampledDpEvent(
        batch / records, dp_accounting.GaussianDpEvent(float(noise))
    )
    accountant.compose(dp_accounting.SelfComposedDpEvent(step, steps))
    return float(accountant.get_epsilon(float(delta)))


def check_against_dp_accounting(
    epsilon: Decimal, records: int, rate: float, steps: int, delta: str
) -> None:
    batch = max(1, int(rate * records))
    try:
        noise = calibrate_noise(epsilon, delta, records, batch, steps)
    except CalibrationError:
        return
    reached = dp_accountings(noise, batch, records, steps, delta)
    assert float(epsilon) * 0.995 <= reached <= float(epsilon)


TRAININGS = given(
    epsilon=st.decimals("0.3", "5", places=2),
    records=st.integers(1_000, 10_000_000),
    rate=st.floats(0.001, 0.2),
    steps=st.integers(1, 5_000),
    delta=DELTAS,
)


@settings(max_examples=10, deadline=None)
@TRAININGS
def test_dp_accounting_agrees_and_is_never_above(
    epsilon: Decimal, records: int, rate: float, steps: int, delta: str
) -> None:
    check_against_dp_accounting(epsilon, records, rate, steps, delta)


@pytest.mark.full
@settings(max_examples=1_000, deadline=None)
@TRAININGS
def test_dp_accounting_agrees_a_thousand_times(
    epsilon: Decimal, records: int, rate: float, steps: int, delta: str
) -> None:
    check_against_dp_accounting(epsilon, records, rate, steps, delta)


@pytest.mark.parametrize(
    ("asked", "noise"),
    [
        (("4", "1e-6", 180_000, 4096, 440), "0.98714"),
        (("3", "1e-5", 2_000, 64, 96), "0.95031"),
        (("1", "1e-9", 10_000_000, 8192, 5_000), "1.16562"),
        (("8", "5e-7", 50_000, 10_000, 12), "0.95238"),
    ],
)
def test_a_finished_training_finds_its_noise_again_in_a_later_version(
    asked: tuple[str, str, int, int, int], noise: str
) -> None:
    # Other noise is another training, and another charge.
    assert calibrate_noise(*asked) == noise


def test_calibrates_within_a_requests_patience() -> None:
    seconds = []
    for index in range(20):
        began = time.perf_counter()
        calibrate_noise("4", "1e-6", 180_000 + index, 4096, 440)
        seconds.append(time.perf_counter() - began)
    assert sorted(seconds)[len(seconds) // 2] < 0.1


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
