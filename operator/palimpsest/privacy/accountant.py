"""From mechanisms to (epsilon, delta): Rényi here in pure Python, PLD in a process of its own."""

import json
import math
import subprocess
from collections.abc import Iterable, Sequence
from functools import lru_cache

from palimpsest.privacy import worker
from palimpsest.privacy.mechanisms import DiscreteGaussian, Mechanism, PoissonSubsampledGaussian

# The grid that dp-accounting uses, so that auditors meet the same figures.
ORDERS: tuple[float, ...] = (
    *(1 + tenth / 10 for tenth in range(1, 100)),
    *range(11, 64),
    128,
    256,
    512,
    1024,
)

MIN_PLD_NOISE = 0.3
PLD_SECONDS = 120

# Standard deviations beyond which a Gaussian weighs less than e^-40.
_WIDTHS = 9.0


class AccountantError(Exception):
    """A figure could not be computed."""


def epsilon_rdp(mechanisms: Iterable[Mechanism], delta: float) -> tuple[float, float]:
    """(epsilon, order) of the composition at `delta`, minimised over ORDERS."""
    curve = [_effective(m) for m in mechanisms]
    return min(
        (epsilon_at(sum(n * one_step(q, s, a) for q, s, n in curve), a, delta), a) for a in ORDERS
    )


def epsilon_at(rdp: float, order: float, delta: float) -> float:
    """Epsilon that a Rényi divergence at one order gives.

    Canonne, Kamath and Steinke 2020, proposition 12; and delta <= sqrt(1 - e^-KL) where that alone
    suffices.
    """
    if delta * delta + math.expm1(-rdp) > 0:
        return 0.0
    return max(0.0, rdp + math.log1p(-1 / order) - math.log(delta * order) / (order - 1))


@lru_cache(maxsize=65_536)
def one_step(rate: float, noise: float, order: float) -> float:
    """Rényi divergence in nats of one Poisson-subsampled Gaussian step.

    Mironov, Talwar and Zhang 2019, section 3.3, for integer and fractional orders.
    """
    if rate == 1.0:
        return order / (2 * noise * noise)
    log_a = (
        _log_a_integer(rate, noise, int(order))
        if float(order).is_integer()
        else _log_a_fractional(rate, noise, order)
    )
    return max(0.0, log_a / (order - 1))


def _effective(mechanism: Mechanism) -> tuple[float, float, int]:
    """(rate, noise, steps); the discrete Gaussian's Rényi curve is the Gaussian's."""
    match mechanism:
        case PoissonSubsampledGaussian():
            return mechanism.rate, float(mechanism.noise), mechanism.steps
        case DiscreteGaussian():
            return 1.0, float(mechanism.noise), 1


def _log_a_integer(q: float, sigma: float, alpha: int) -> float:
    """ln A with A - 1 = sum_k C(a,k) (1-q)^(a-k) q^k (e^((k^2-k)/2s^2) - 1), in log space."""
    log_odds, log_weight = math.log(q) - math.log1p(-q), alpha * math.log1p(-q)
    half = 0.5 / (sigma * sigma)
    terms = []
    for k in range(1, alpha + 1):
        log_weight += math.log((alpha - k + 1) / k) + log_odds
        exponent = (k * k - k) * half
        if exponent > 0:
            # ln(e^x - 1) = x + ln(1 - e^-x), without overflow.
            terms.append(log_weight + exponent + math.log(-math.expm1(-exponent)))
    return _log1p_exp(_log_sum(terms))


def _log_a_fractional(q: float, sigma: float, alpha: float) -> float:
    """ln A by quadrature of A - 1 = E[(1 + w)^a - 1 - a w].

    There w = q (e^((2x-1)/2s^2) - 1) and x ~ N(0, s^2).
    E[w] = 0, so the linear term costs nothing and keeps small A - 1 exact. The trapezoidal rule
    converges geometrically here: the step stays below the Gaussian's width and below the distance
    pi s^2 of the integrand's singularities from the real line. (The alternating series of the same
    section loses several digits at small orders and large noise.)
    """
    variance = sigma * sigma
    step = min(sigma / 1.5, 0.5 * variance)
    first = math.floor(-_WIDTHS * sigma / step)
    last = math.ceil((max(2.0, alpha) + _WIDTHS * sigma) / step)
    terms = []
    for node in range(first, last + 1):
        x = node * step
        z = (2 * x - 1) / (2 * variance)
        terms.append(_log_excess(q, z, alpha) - x * x / (2 * variance))
    log_excess = _log_sum(terms) + math.log(step / (sigma * math.sqrt(2 * math.pi)))
    return _log1p_exp(log_excess)


def _log_excess(q: float, z: float, alpha: float) -> float:
    """ln((1 + w)^a - 1 - a w) for w = q (e^z - 1)."""
    if z > 700:
        return alpha * (math.log(q) + z)
    w = q * math.expm1(z)
    if abs(w) < 1e-3:
        if w == 0:
            return -math.inf
        a = alpha
        series = 1 + (a - 2) / 3 * w * (1 + (a - 3) / 4 * w * (1 + (a - 4) / 5 * w))
        return math.log(a * (a - 1) / 2) + 2 * math.log(abs(w)) + math.log(series)
    log_power = alpha * math.log1p(w)
    if log_power > 40 and w > 1:
        return log_power + math.log1p(-math.exp(math.log1p(alpha * w) - log_power))
    return math.log(math.expm1(log_power) - alpha * w)


def _log1p_exp(x: float) -> float:
    """ln(1 + e^x)."""
    return math.log1p(math.exp(x)) if x < 30 else x + math.log1p(math.exp(-x))


def _log_sum(terms: Sequence[float]) -> float:
    peak = max(terms)
    return peak + math.log(math.fsum(math.exp(term - peak) for term in terms))


def epsilon_pld(mechanisms: Iterable[Mechanism], delta: float) -> float:
    """Epsilon of the composition at `delta` by privacy loss distributions (dp-accounting).

    Takes about a second and 100 MB in a process of its own, once for each question. Raises
    AccountantError where the extra `accounting` is missing, or a noise multiplier is so small that
    the distribution would not fit into memory.
    """
    return _pld(tuple(mechanisms), delta)


# Budgets of one kind ask the same, and so does a receipt that has to be written again.
@lru_cache(maxsize=1024)
def _pld(mechanisms: tuple[Mechanism, ...], delta: float) -> float:
    plain = [mechanism.model_dump() for mechanism in mechanisms]
    for mechanism in plain:
        if float(mechanism["noiseMultiplier"]) < MIN_PLD_NOISE:
            raise AccountantError(
                f"noiseMultiplier {mechanism['noiseMultiplier']}: below {MIN_PLD_NOISE} the "
                "privacy loss distribution takes gigabytes; use the Rényi figure"
            )
    try:
        done = worker.ask(
            "palimpsest.privacy.pld_worker", {"mechanisms": plain, "delta": delta}, PLD_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise AccountantError(f"the PLD accountant took over {PLD_SECONDS} s") from error
    if done.returncode == 3:
        raise AccountantError(
            "the PLD accountant is not there: python3 -m pip install dp-accounting"
        )
    try:
        return float(json.loads(done.stdout)["epsilon"])
    except (ValueError, KeyError, TypeError) as error:
        raise AccountantError(f"the PLD accountant failed (exit {done.returncode})") from error
