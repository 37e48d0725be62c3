"""The admission webhook: what it decides, how fast, and its certificates."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from palimpsest.api.refusals import Refusal

from .catalogue import ADMISSION, BOTH, KINDS, counter, gauge, histogram, start_at_zero

OPERATIONS = ("CREATE", "UPDATE", "DELETE", "CONNECT")
# Callers must not invent labels.
OTHER_KIND, OTHER_OPERATION = "other", "OTHER"
_OUTCOMES = ("allowed", "denied", "failed")
_FAILED = "Failed"

_DECISIONS = counter(
    "palimpsest_admission_decisions_total",
    "requests",
    "Admission decisions. Failed ones are denied too: the webhook could not check the request.",
    {
        "kind": (*KINDS, OTHER_KIND),
        "operation": (*OPERATIONS, OTHER_OPERATION),
        "outcome": _OUTCOMES,
        "reason": ("Allowed", *(refusal.value for refusal in Refusal), _FAILED),
    },
    ADMISSION,
)
_SECONDS = histogram(
    "palimpsest_admission_time_seconds",
    "How long an admission decision took.",
    {"kind": (*KINDS, OTHER_KIND)},
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
    ADMISSION,
)
_CERTIFICATE = gauge(
    "palimpsest_admission_certificate_expiry_timestamp_seconds",
    "seconds",
    "When the admission webhook's certificate ends, Unix time. The operator shows both where it "
    "keeps them, the admission pods the leaf that they serve.",
    {"certificate": ("leaf", "ca")},
    BOTH,
)

start_at_zero(_DECISIONS, (*KINDS, OTHER_KIND), OPERATIONS[:3], ("failed",), (_FAILED,))
start_at_zero(_SECONDS, (*KINDS, OTHER_KIND))

Outcome = Literal["allowed", "denied", "failed"]
Count = Callable[[Outcome, Refusal | None], None]


@contextmanager
def decision(kind: str, operation: str) -> Iterator[Count]:
    """Time one decision; the block says how it went, and why if it was denied."""
    began = time.perf_counter()

    def count(outcome: Outcome, reason: Refusal | None) -> None:
        told = reason.value if reason else "Allowed" if outcome == "allowed" else _FAILED
        _DECISIONS.labels(kind, operation, outcome, told).inc()

    yield count
    _SECONDS.labels(kind).observe(time.perf_counter() - began)


def observe_certificate(name: str, expires: float | None) -> None:
    """When the certificate `name` (leaf, ca) ends; None: there is none."""
    if expires is None:
        with suppress(KeyError):
            _CERTIFICATE.remove(name)
    else:
        _CERTIFICATE.labels(name).set(expires)
