"""The gate against dp-accounting and against the figures it was designed by."""

import math
import random
from decimal import Decimal

import pytest
from dp_accounting.rdp import rdp_privacy_accountant
from hypothesis import given
from hypothesis import strategies as st
from palimpsest.privacy.calibration import calibrate_noise, default_plan
from palimpsest.privacy.gate import (
    UNITS_PER_NAT,
    Limit,
    choose_order,
    cost_of_steps,
    renyi_cost,
    rho,
    total_cost,
)
from palimpsest.privacy.mechanisms import DiscreteGaussian, Mechanism, PoissonSubsampledGaussian

HISTOGRAM = DiscreteGaussian(noiseMultiplier="10")
LIMIT_8 = Limit(Decimal(8), Decimal("1e-6"))


def training(
    noise: str, batch: int = 4096, records: int = 180_000, steps: int = 440
) -> PoissonSubsampledGaussian:
    return PoissonSubsampledGaussian(
        batch=batch, records=records, noiseMultiplier=noise, steps=steps
    )


def random_mechanism(draw: random.Random) -> PoissonSubsampledGaussian:
    records = int(10 ** draw.uniform(2, 8))
    batch = max(1, int(records * 10 ** draw.uniform(-4, 0)))
    noise = f"{10 ** draw.uniform(-0.5, 1.5):.5f}"
    return training(noise, batch, records, int(10 ** draw.uniform(0, 4)))


def test_never_below_dp_accounting_and_at_most_a_thousandth_above() -> None:
    draw = random.Random(1)
    for _ in range(10_000):
        mechanism, order = random_mechanism(draw), draw.choice([2, 3, 4, 5, 8, 13, 32, 64])
        step = rdp_privacy_accountant._compute_rdp_poisson_subsampled_gaussian(
            mechanism.rate, float(mechanism.noise), [order]
        )[0]
        truth = step * mechanism.steps
        mine = renyi_cost(mechanism, order) / UNITS_PER_NAT
        # The reference is a float sum about 1, with an absolute error of a few 1e-16 a step.
        noise = mechanism.steps * 1e-14 + truth * 1e-11
        assert mine >= truth - noise, (mechanism, order)
        assert mine <= truth * 1.001 + noise, (mechanism, order)


def test_the_whole_batch_is_the_plain_gaussian() -> None:
    assert renyi_cost(training("2", 7, 7, 3), 5) == pytest.approx(
        3 * 5 / 8 * UNITS_PER_NAT, abs=1.5
    )


def test_a_histogram_is_half_the_order_over_the_variance() -> None:
    cost = renyi_cost(HISTOGRAM, 4)
    assert 4 / 200 * UNITS_PER_NAT <= cost <= 4 / 200 * UNITS_PER_NAT + 1


def test_every_machine_computes_this_integer() -> None:
    """Readers recompute what writers recorded; a change here breaks journals already written."""
    assert renyi_cost(training("0.98671"), 4) == GOLDEN_COST
    assert rho(Decimal(8), Decimal("1e-6"), 4) == GOLDEN_RHO


GOLDEN_COST = 936_339_832_755_867
GOLDEN_RHO = 4_144_610_006_836_986


@given(
    blocks=st.lists(st.integers(1, 50), min_size=1, max_size=30),
    noise=st.decimals("0.3", "20", places=4),
)
def test_blocks_add_up_to_the_whole(blocks: list[int], noise: Decimal) -> None:
    whole = training(str(noise), steps=sum(blocks))
    done, paid = 0, 0
    for block in blocks:
        cost = cost_of_steps(whole, done + block, 4) - cost_of_steps(whole, done, 4)
        assert cost > 0
        done, paid = done + block, paid + cost
    assert paid == renyi_cost(whole, 4)


@pytest.mark.parametrize("order", [2, 4, 17, 256])
def test_rho_is_the_inverse_of_the_conversion(order: int) -> None:
    nats = rho(Decimal(8), Decimal("1e-6"), order) / UNITS_PER_NAT
    epsilon = nats + math.log1p(-1 / order) - math.log(1e-6 * order) / (order - 1)
    assert epsilon == pytest.approx(8, abs=1e-12)


def test_rho_rounds_down() -> None:
    # At this epsilon rho is 0 but for rounding.
    epsilon = Decimal(math.log1p(-1 / 4) - math.log(1e-6 * 4) / 3)
    assert rho(epsilon - Decimal("1e-15"), Decimal("1e-6"), 4) < 1


def test_the_default_plan_fills_the_limit_at_order_four() -> None:
    plan = default_plan(LIMIT_8, 180_000)
    assert choose_order(plan, LIMIT_8) == 4
    filled = total_cost(plan, 4) / rho(LIMIT_8.epsilon, LIMIT_8.delta, 4)
    assert 0.999 < filled <= 1
    assert [m.kind for m in plan] == ["poisson-subsampled-gaussian"] * 2 + ["discrete-gaussian"] * 2


def test_shares_of_an_epsilon_four_training_and_a_histogram() -> None:
    allowed = rho(LIMIT_8.epsilon, LIMIT_8.delta, 4)
    noise = calibrate_noise("4", "1e-6", 180_000, 4096, 440)
    assert renyi_cost(training(noise), 4) / allowed == pytest.approx(0.226, abs=0.001)
    assert renyi_cost(HISTOGRAM, 4) / allowed == pytest.approx(0.005, abs=0.0005)


def test_the_order_is_the_plans_cheapest() -> None:
    limit = Limit(Decimal("3.4"), Decimal("1e-5"))
    noise = calibrate_noise("3", "1e-5", 15_000, 256, 32)
    plan: list[Mechanism] = [training(noise, 256, 15_000, 32), HISTOGRAM]
    shares = {
        order: total_cost(plan, order) / rho(limit.epsilon, limit.delta, order)
        for order in range(2, 257)
        if rho(limit.epsilon, limit.delta, order) > 0
    }
    assert choose_order(plan, limit) == min(shares, key=lambda order: shares[order])


def test_an_epsilon_too_small_for_any_order_is_said_so() -> None:
    with pytest.raises(ValueError, match="raise epsilon"):
        choose_order([HISTOGRAM], Limit(Decimal("0.01"), Decimal("1e-9")))


@pytest.mark.parametrize("order", [0, 1, 257])
def test_orders_outside_the_gate_are_refused(order: int) -> None:
    with pytest.raises(ValueError, match="order"):
        renyi_cost(HISTOGRAM, order)
