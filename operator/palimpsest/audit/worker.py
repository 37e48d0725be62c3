"""`python -m palimpsest.audit.worker`: dp-accounting's word on a journal's charges.

A question (see `reference`) on stdin, an answer on stdout. Exit code 3: dp-accounting is missing.
"""

import json
import math
import sys
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from palimpsest.privacy.mechanisms import Mechanism, PoissonSubsampledGaussian, counted
from palimpsest.privacy.pld_worker import epsilon as epsilon_pld

_MECHANISMS = TypeAdapter(list[Mechanism])
# At this delta the conversion's tail dwarfs its clamps, so that the Rényi cost can be read back
# from epsilon; of a million steps, so that the tail's rounding does not matter.
_TINY = 1e-300
_MANY = 1_000_000


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Nats of one step at the order; (Rényi, PLD) epsilon of every group."""
    order, delta = question["order"], question["delta"]
    groups = [(_MECHANISMS.validate_python(g["mechanisms"]), g["pld"]) for g in question["groups"]]
    return {
        "nats": [_nats(each, order) for each in _MECHANISMS.validate_python(question["steps"])],
        "groups": [
            {
                "rdp": _epsilon_rdp(mechanisms, order, delta),
                "pld": _epsilon_pld(tuple(mechanisms), delta) if pld else None,
            }
            for mechanisms, pld in groups
        ],
    }


@cache
def _epsilon_pld(mechanisms: tuple[Mechanism, ...], delta: float) -> float:
    return epsilon_pld(list(mechanisms), delta) if mechanisms else 0.0


def _event(mechanism: Mechanism, steps: int) -> Any:
    import dp_accounting as dp  # noqa: PLC0415

    # The discrete Gaussian's Rényi curve is the Gaussian's (Canonne, Kamath and Steinke 2020).
    noise = dp.GaussianDpEvent(float(mechanism.noise))
    if isinstance(mechanism, PoissonSubsampledGaussian):
        noise = dp.PoissonSampledDpEvent(mechanism.rate, noise)
    return dp.SelfComposedDpEvent(noise, steps)


def _nats(mechanism: Mechanism, order: int) -> float:
    from dp_accounting import rdp  # noqa: PLC0415

    accountant = rdp.RdpAccountant([float(order)])
    accountant.compose(_event(mechanism, _MANY))
    epsilon = float(accountant.get_epsilon(_TINY))
    tail = math.log1p(-1 / order) - math.log(_TINY * order) / (order - 1)
    return max(0.0, (epsilon - tail) / _MANY)


def _epsilon_rdp(mechanisms: list[Mechanism], order: int, delta: float) -> float:
    from dp_accounting import rdp  # noqa: PLC0415

    if not mechanisms:
        return 0.0
    orders = sorted({float(order), *rdp.RdpAccountant().orders})
    accountant = rdp.RdpAccountant(orders)
    for step, count in counted(mechanisms).items():
        accountant.compose(_event(step, count))
    return float(accountant.get_epsilon(delta))


def main() -> int:
    """Answer one question."""
    question = json.load(sys.stdin)
    try:
        found = answer(question)
    except ModuleNotFoundError:
        return 3
    json.dump(found, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
