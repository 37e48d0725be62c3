"""The accountant against dp-accounting and against numerical integration."""

import math
import random

import dp_accounting
import pytest
from dp_accounting.pld import privacy_loss_distribution
from dp_accounting.rdp import RdpAccountant
from palimpsest.privacy.accountant import (
    ORDERS,
    AccountantError,
    epsilon_pld,
    epsilon_rdp,
    one_step,
)
from palimpsest.privacy.mechanisms import DiscreteGaussian, Mechanism, PoissonSubsampledGaussian
from scipy import integrate, stats  # type: ignore[import-untyped]

HISTOGRAM = DiscreteGaussian(noiseMultiplier="10")


def training(noise: str) -> PoissonSubsampledGaussian:
    return PoissonSubsampledGaussian(batch=4096, records=180_000, noiseMultiplier=noise, steps=440)


def integrated(rate: float, noise: float, order: float) -> float:
    """The divergence from its definition: E[(1 - q + q e^((2x-1)/2s^2))^a] by quadrature."""

    def integrand(x: float) -> float:
        w = rate * math.expm1((2 * x - 1) / (2 * noise**2))
        return float(((1 + w) ** order - 1 - order * w) * stats.norm.pdf(x, 0, noise))

    low, high = -12 * noise, max(2, order) + 12 * noise
    value, _ = integrate.quad(
        integrand, low, high, limit=500, epsabs=0, epsrel=1e-8, points=[0, 1, order]
    )
    return math.log1p(float(value)) / (order - 1)


def test_every_order_against_the_definition() -> None:
    draw = random.Random(2)
    for _ in range(60):
        rate, noise = 10 ** draw.uniform(-3, -0.05), 10 ** draw.uniform(-0.3, 1)
        order = draw.choice([a for a in ORDERS if a < 12])
        assert one_step(rate, noise, order) == pytest.approx(
            integrated(rate, noise, order), rel=1e-6
        ), (rate, noise, order)


def test_the_orders_are_those_of_dp_accounting() -> None:
    assert list(ORDERS) == [float(order) for order in RdpAccountant().orders]


@pytest.mark.parametrize("noise", ["0.7", "0.80752", "0.98671", "1.12254", "2", "6.5"])
def test_epsilon_against_dp_accounting(noise: str) -> None:
    reference = RdpAccountant()
    event = dp_accounting.PoissonSampledDpEvent(
        4096 / 180_000, dp_accounting.GaussianDpEvent(float(noise))
    )
    reference.compose(dp_accounting.SelfComposedDpEvent(event, 440))
    reference.compose(dp_accounting.GaussianDpEvent(10))
    epsilon, _ = epsilon_rdp([training(noise), HISTOGRAM], 5e-7)
    # dp-accounting ends its alternating series early and stays slightly above.
    assert epsilon == pytest.approx(reference.get_epsilon(5e-7), rel=5e-4)


@pytest.mark.parametrize(
    ("noise", "alone", "with_histogram"),
    [("1.12254", 3.161, 3.198), ("0.80752", 6.685, 6.705)],
)
def test_published_renyi_figures(noise: str, alone: float, with_histogram: float) -> None:
    assert epsilon_rdp([training(noise)], 5e-7)[0] == pytest.approx(alone, abs=0.002)
    assert epsilon_rdp([training(noise), HISTOGRAM], 5e-7)[0] == pytest.approx(
        with_histogram, abs=0.002
    )


def test_published_pld_figure() -> None:
    assert epsilon_pld([training("1.12254"), HISTOGRAM], 5e-7) == pytest.approx(2.897, abs=0.001)


def test_equal_mechanisms_compose_as_one_by_one() -> None:
    loss = privacy_loss_distribution
    histogram = loss.from_discrete_gaussian_mechanism(10)
    steps = loss.from_gaussian_mechanism(1.12254, sampling_prob=4096 / 180_000).self_compose(440)
    one_by_one = steps.compose(histogram).compose(steps).compose(histogram).compose(histogram)
    trained = training("1.12254")
    mechanisms: list[Mechanism] = [trained, HISTOGRAM, trained, HISTOGRAM, HISTOGRAM]
    expected = one_by_one.get_epsilon_for_delta(5e-7)
    assert epsilon_pld(mechanisms, 5e-7) == pytest.approx(expected, rel=1e-4)


def test_no_noise_to_speak_of_is_refused_before_it_takes_the_memory() -> None:
    with pytest.raises(AccountantError, match=r"noiseMultiplier 0\.29"):
        epsilon_pld([training("0.29")], 5e-7)


def test_almost_nothing_spent_is_epsilon_zero() -> None:
    quiet = PoissonSubsampledGaussian(batch=1, records=10_000_000, noiseMultiplier="1000", steps=1)
    assert epsilon_rdp([quiet], 1e-5)[0] == 0
