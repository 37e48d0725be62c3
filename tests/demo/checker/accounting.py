"""What charges cost, by Google's dp-accounting: neither formula nor code is the product's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import dp_accounting
from dp_accounting import pld, rdp

from demo.checker.bucket import CheckError

# At this delta the conversion's tail dwarfs its clamps, so the Renyi cost can be read back from it.
_TINY = 1e-300


def event(mechanism: dict[str, Any], steps: int) -> dp_accounting.DpEvent:
    """`steps` steps of a journaled mechanism. Raises CheckError for an unknown one."""
    noise = dp_accounting.GaussianDpEvent(float(mechanism["noiseMultiplier"]))
    match mechanism["kind"]:
        case "poisson-subsampled-gaussian":
            rate = mechanism["batch"] / mechanism["records"]
            noise = dp_accounting.PoissonSampledDpEvent(rate, noise)
        case "discrete-gaussian":
            # The discrete Gaussian's Renyi curve is the Gaussian's (Canonne et al. 2020).
            pass
        case kind:
            raise CheckError(f"the journal charges an unknown mechanism: {kind}")
    return dp_accounting.SelfComposedDpEvent(noise, steps)


def renyi(events: Sequence[dp_accounting.DpEvent], order: int) -> float:
    """Renyi divergence of the composition at one order, in nats."""
    accountant = rdp.RdpAccountant([float(order)])
    for one in events:
        accountant.compose(one)
    epsilon = float(accountant.get_epsilon(_TINY))
    return epsilon - math.log1p(-1 / order) + math.log(_TINY * order) / (order - 1)


def allowance(epsilon: float, delta: float, order: int) -> float:
    """Renyi spending at `order` that (epsilon, delta) allows (Canonne et al. 2020, prop. 12)."""
    return epsilon - math.log1p(-1 / order) + math.log(delta * order) / (order - 1)


def epsilon_renyi(events: Sequence[dp_accounting.DpEvent], delta: float) -> float:
    """Epsilon by Renyi accounting, best order."""
    accountant = rdp.RdpAccountant()
    for one in events:
        accountant.compose(one)
    return float(accountant.get_epsilon(delta))


def epsilon_pld(events: Sequence[dp_accounting.DpEvent], delta: float) -> float:
    """Epsilon by privacy loss distributions; the discrete Gaussian is taken as the Gaussian."""
    accountant = pld.PLDAccountant(value_discretization_interval=1e-3)
    for one in events:
        accountant.compose(one)
    return float(accountant.get_epsilon(delta))
