"""Benchmarks of the ledger: how long a tenant waits to hear whether a charge fits."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from statistics import quantiles

from palimpsest.ledger import LedgerState
from palimpsest.privacy.calibration import calibrate_noise
from palimpsest.privacy.gate import renyi_cost
from palimpsest.privacy.mechanisms import PoissonSubsampledGaussian

from bench.harness import Benchmark, Measure, Pair

ENTRIES = 1_000
RECORDS, BATCH, STEPS = 180_000, 4_096, 440
DELTA = "1e-5"


def _state() -> LedgerState:
    from unit.audit.ground import built, replayed  # noqa: PLC0415

    return replayed(built(ENTRIES)).state


def _p99(questions: int, ask: Callable[[], object]) -> Measure:
    def milliseconds() -> float:
        taken = []
        for _ in range(questions):
            began = time.perf_counter()
            ask()
            taken.append(1000 * (time.perf_counter() - began))
        return quantiles(taken, n=100, method="inclusive")[98]

    return milliseconds


def _training(noise: str) -> PoissonSubsampledGaussian:
    return PoissonSubsampledGaussian(
        batch=BATCH, records=RECORDS, noiseMultiplier=noise, steps=STEPS
    )


def _spent_at(state: LedgerState, noise: float) -> float:
    """Epsilon at the gate's order of the journal's charges and one more, by dp-accounting."""
    import dp_accounting  # noqa: PLC0415
    from dp_accounting import rdp  # noqa: PLC0415

    accountant = rdp.RdpAccountant([float(state.order)])
    for charge in state.charges.values():
        mechanism = charge.mechanism
        event: dp_accounting.DpEvent = dp_accounting.GaussianDpEvent(float(mechanism.noise))
        steps = 1
        if isinstance(mechanism, PoissonSubsampledGaussian):
            event = dp_accounting.PoissonSampledDpEvent(mechanism.rate, event)
            steps = charge.intended_steps
        if steps:
            accountant.compose(dp_accounting.SelfComposedDpEvent(event, steps))
    one = dp_accounting.PoissonSampledDpEvent(BATCH / RECORDS, dp_accounting.GaussianDpEvent(noise))
    accountant.compose(dp_accounting.SelfComposedDpEvent(one, STEPS))
    return float(accountant.get_epsilon(float(DELTA)))


def _given(_: ExitStack) -> Pair:
    state, fresh = _state(), count(1)
    # Prices are remembered: every question is about noise that nobody asked for before.
    return Pair(
        _p99(200, lambda: state.fits(_training(f"1.{next(fresh):05d}"))),
        _p99(5, lambda: _spent_at(state, 1 + next(fresh) / 100_000)),
    )


def _calibrated(_: ExitStack) -> Pair:
    import dp_accounting  # noqa: PLC0415
    from dp_accounting import rdp  # noqa: PLC0415

    state, fresh = _state(), count(1)

    def ours() -> bool:
        epsilon = f"{2 + next(fresh) / 10_000:.4f}"
        return state.fits(_training(calibrate_noise(epsilon, DELTA, RECORDS, BATCH, STEPS)))

    def event(noise: float) -> dp_accounting.DpEvent:
        one = dp_accounting.GaussianDpEvent(noise)
        sampled = dp_accounting.PoissonSampledDpEvent(BATCH / RECORDS, one)
        return dp_accounting.SelfComposedDpEvent(sampled, STEPS)

    def theirs() -> float:
        noise = dp_accounting.calibrate_dp_mechanism(
            rdp.RdpAccountant, event, 2 + next(fresh) / 10_000, float(DELTA), tol=1e-5
        )
        return _spent_at(state, float(noise))

    return Pair(_p99(100, ours), _p99(3, theirs))


def _gate(_: ExitStack) -> Pair:
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent, rdp  # noqa: PLC0415

    fresh = iter(range(1, 1_000_000))

    def noises() -> list[str]:
        # Costs are remembered: every call asks for noise that nobody asked for before.
        return [f"0.8{next(fresh):06d}1" for _ in range(20)]

    def milliseconds(price: Callable[[str], object]) -> float:
        asked = noises()
        began = time.perf_counter()
        for noise in asked:
            price(noise)
        return 1000 * (time.perf_counter() - began) / len(asked)

    def ours(noise: str) -> object:
        mechanism = PoissonSubsampledGaussian(
            batch=256, records=15_000, noiseMultiplier=noise, steps=32
        )
        return renyi_cost(mechanism, 8)

    def theirs(noise: str) -> object:
        accountant = rdp.RdpAccountant([8.0])
        one = PoissonSampledDpEvent(256 / 15_000, GaussianDpEvent(float(noise)))
        accountant.compose(SelfComposedDpEvent(one, 32))
        return accountant.get_epsilon(1e-5)

    return Pair(lambda: milliseconds(ours), lambda: milliseconds(theirs))


BENCHMARKS = (
    Benchmark(
        "gate-price",
        "ms",
        "lower",
        "price of a training at the gate's order, 80-digit decimals",
        "dp-accounting's RdpAccountant at the same order, in double precision",
        0.2,
        _gate,
    ),
    Benchmark(
        "fit",
        "ms",
        "lower",
        f"99th percentile of 'does it fit?' at {ENTRIES:,} entries, noise given",
        "dp-accounting composing the same charges at the same order",
        5.0,
        _given,
    ),
    Benchmark(
        "fit-calibrated",
        "ms",
        "lower",
        f"99th percentile of 'does it fit?' at {ENTRIES:,} entries, noise calibrated to epsilon",
        "dp-accounting calibrating, then composing the same charges",
        5.0,
        _calibrated,
    ),
)
