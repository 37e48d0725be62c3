"""How much a second, and the model that most rates are of."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bench.harness import Measure


def counted(work: Callable[[], int], settle: Callable[[], object] = int) -> Measure:
    """What `work` says it did, a second; `settle` waits for what it left running."""

    def a_second() -> float:
        settle()
        began = time.perf_counter()
        amount = work()
        settle()
        return amount / (time.perf_counter() - began)

    return a_second


def rate(amount: int, work: Callable[[], object], settle: Callable[[], object] = int) -> Measure:
    """Likewise, of work that always does as much."""

    def done() -> int:
        work()
        return amount

    return counted(done, settle)


def smollm2(precision: str = "bfloat16") -> tuple[Any, Any]:
    """The demo's generator, SmolLM2-135M, and its tokenizer."""
    from cluster import parts  # noqa: PLC0415
    from palimpsest_stage.models import load_causal  # noqa: PLC0415 - 4 s

    return load_causal(parts.smollm2().folder, precision)
