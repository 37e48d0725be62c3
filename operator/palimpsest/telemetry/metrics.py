"""Prometheus metrics, named as controller-runtime names them where it has the like.

No object's name is a label, save a PrivacyBudget's: those are few and never private.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from prometheus_client import Counter, Gauge, Histogram, start_http_server

# The client library appends `_total` to counters.
_RECONCILES = Counter(
    "palimpsest_controller_reconcile", "Reconciles by kind and result.", ["controller", "result"]
)
_ERRORS = Counter(
    "palimpsest_controller_reconcile_errors",
    "Reconciles that ended in an exception.",
    ["controller"],
)
_SECONDS = Histogram(
    "palimpsest_controller_reconcile_time_seconds", "Seconds a reconcile took.", ["controller"]
)
_DEPTH = Gauge("palimpsest_workqueue_depth", "Keys that wait to be reconciled.")
_DECISIONS = Counter(
    "palimpsest_admission_decisions",
    "Admission decisions by kind, operation and outcome (allowed, denied, failed).",
    ["kind", "operation", "outcome"],
)
_DECISION_SECONDS = Histogram(
    "palimpsest_admission_time_seconds",
    "Seconds an admission decision took.",
    ["kind"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
_CERTIFICATE = Gauge(
    "palimpsest_admission_certificate_expiry_timestamp_seconds",
    "When the admission webhook's certificate ends (leaf; in the operator ca too), Unix time.",
    ["certificate"],
)
_SHARE = Gauge(
    "palimpsest_privacybudget_share",
    "Part of the budget's gate by state (committed, reserved, left).",
    ["privacybudget", "state"],
)
_VERIFIED = Gauge(
    "palimpsest_budget_ledger_verified",
    "1 while the budget's journal holds all that is remembered of it, 0 once it does not.",
    ["privacybudget"],
)
_LEDGER = Counter(
    "palimpsest_ledger_operations",
    "Appends to journals by kind and result.",
    ["operation", "result"],
)


def serve(port: int) -> None:
    """Answer /metrics on `port` from a thread of its own."""
    start_http_server(port)


@contextmanager
def reconcile(controller: str) -> Iterator[None]:
    """Count and time one reconcile of the kind `controller`."""
    result = "success"
    began = time.perf_counter()
    try:
        yield
    except BaseException:
        result = "error"
        _ERRORS.labels(controller).inc()
        raise
    finally:
        _RECONCILES.labels(controller, result).inc()
        _SECONDS.labels(controller).observe(time.perf_counter() - began)


def observe_queue(depth: Callable[[], float]) -> None:
    """Read the work queue's depth from `depth` at every scrape."""
    _DEPTH.set_function(depth)


def observe_certificate(name: str, expires: float | None) -> None:
    """When the certificate `name` (leaf, ca) ends; None: there is none."""
    if expires is None:
        with suppress(KeyError):
            _CERTIFICATE.remove(name)
    else:
        _CERTIFICATE.labels(name).set(expires)


def observe_budget(name: str, committed: float, reserved: float) -> None:
    """A budget's shares of its gate, from 0 to 1."""
    shares = {"committed": committed, "reserved": reserved, "left": 1 - committed - reserved}
    for state, share in shares.items():
        _SHARE.labels(name, state).set(share)


def observe_ledger(name: str, verified: bool) -> None:
    """Whether a budget's journal was found sound when it was last read."""
    _VERIFIED.labels(name).set(verified)


def forget_budget(name: str) -> None:
    """A budget is gone; its series end."""
    with suppress(KeyError):
        _VERIFIED.remove(name)
    for state in ("committed", "reserved", "left"):
        with suppress(KeyError):
            _SHARE.remove(name, state)


@contextmanager
def ledger_operation(operation: str) -> Iterator[None]:
    """Count one append to a journal as `success` or `error`."""
    result = "success"
    try:
        yield
    except BaseException:
        result = "error"
        raise
    finally:
        _LEDGER.labels(operation, result).inc()


@contextmanager
def admission(kind: str, operation: str) -> Iterator[Callable[[str], None]]:
    """Time one decision; the block calls what it is given with `allowed`, `denied` or `failed`."""
    began = time.perf_counter()
    yield lambda outcome: _DECISIONS.labels(kind, operation, outcome).inc()
    _DECISION_SECONDS.labels(kind).observe(time.perf_counter() - began)
