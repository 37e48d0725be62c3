"""`python -m palimpsest.privacy.pld_worker`: {mechanisms, delta} on stdin, {epsilon} on stdout.

Exit code 3: dp-accounting is not installed. Importing it costs 80 MB, hence a process that ends.
"""

import json
import sys
from functools import reduce
from typing import Any

from pydantic import TypeAdapter

from palimpsest.privacy.mechanisms import DiscreteGaussian, Mechanism, counted


def epsilon(mechanisms: list[Mechanism], delta: float) -> float:
    """Epsilon at `delta` of the composed privacy loss distributions, add/remove neighbours."""
    from dp_accounting.pld import privacy_loss_distribution as pld  # noqa: PLC0415

    def distribution(step: Mechanism) -> Any:
        sigma = float(step.noise)
        if isinstance(step, DiscreteGaussian):
            return pld.from_discrete_gaussian_mechanism(sigma)
        return pld.from_gaussian_mechanism(sigma, sampling_prob=step.rate)

    # Of equal steps one distribution, composed with itself: a receipt's check asks of hundreds.
    composed = reduce(
        lambda a, b: a.compose(b),
        (distribution(step).self_compose(count) for step, count in counted(mechanisms).items()),
    )
    return float(composed.get_epsilon_for_delta(delta))


def main() -> int:
    """Answer one question."""
    question = json.load(sys.stdin)
    mechanisms = TypeAdapter(list[Mechanism]).validate_python(question["mechanisms"])
    try:
        answer = epsilon(mechanisms, question["delta"])
    except ModuleNotFoundError:
        return 3
    json.dump({"epsilon": answer}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
