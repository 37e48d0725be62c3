"""The control loop, in the shape of controller-runtime's and client-go's metrics."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from .catalogue import KINDS, counter, gauge, histogram, start_at_zero

Result = Literal["success", "requeue", "requeue_after"]
_RESULTS = ("success", "requeue", "requeue_after", "error")
_CONTROLLER = {"controller": KINDS}
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_RECONCILES = counter(
    "palimpsest_controller_reconcile_total",
    "reconciles",
    "Reconciles by kind and result.",
    {**_CONTROLLER, "result": _RESULTS},
)
_ERRORS = counter(
    "palimpsest_controller_reconcile_errors_total",
    "reconciles",
    "Reconciles that ended in an exception; each is tried again, later and later.",
    _CONTROLLER,
)
_TIME = histogram(
    "palimpsest_controller_reconcile_time_seconds",
    "How long a reconcile took.",
    _CONTROLLER,
    _SECONDS,
)
_WORKERS = gauge(
    "palimpsest_controller_active_workers",
    "threads",
    "Threads that reconcile now.",
    _CONTROLLER,
)
_MOST_WORKERS = gauge(
    "palimpsest_controller_max_concurrent_reconciles",
    "threads",
    "Threads that may reconcile at once, of all kinds together.",
)
_DEPTH = gauge("palimpsest_workqueue_depth", "keys", "Keys that wait to be reconciled now.")
_ADDS = counter("palimpsest_workqueue_adds_total", "keys", "Keys that became due.")
_RETRIES = counter(
    "palimpsest_workqueue_retries_total", "keys", "Keys that were put back after an exception."
)
_WAITED = histogram(
    "palimpsest_workqueue_queue_duration_seconds",
    "How long a key that was due waited for a thread.",
    {},
    _SECONDS,
)
_WORKED = histogram(
    "palimpsest_workqueue_work_duration_seconds",
    "How long a thread worked on a key, all of what it did for it.",
    {},
    _SECONDS,
)
_UNFINISHED = gauge(
    "palimpsest_workqueue_unfinished_work_seconds",
    "seconds",
    "Seconds that the reconciles under way have been running, together: grows where one hangs.",
)
_LONGEST = gauge(
    "palimpsest_workqueue_longest_running_processor_seconds",
    "seconds",
    "How long the reconcile that runs longest has been running.",
)
_LEADER = gauge(
    "palimpsest_leader_election_master_status",
    "1",
    "1 while this process holds the Lease and reconciles, else 0.",
    {"name": "the Lease"},
)

start_at_zero(_RECONCILES, KINDS, _RESULTS)
start_at_zero(_ERRORS, KINDS)
start_at_zero(_WORKERS, KINDS)
start_at_zero(_TIME, KINDS)


@contextmanager
def reconcile(controller: str) -> Iterator[Callable[[Result], None]]:
    """Count and time one reconcile; the block says how it ended, unless by an exception."""
    began = time.perf_counter()
    _WORKERS.labels(controller).inc()
    try:
        yield lambda result: _RECONCILES.labels(controller, result).inc()
    except BaseException:
        _ERRORS.labels(controller).inc()
        _RECONCILES.labels(controller, "error").inc()
        raise
    finally:
        _WORKERS.labels(controller).dec()
        _TIME.labels(controller).observe(time.perf_counter() - began)


def observe_queue(
    threads: int, depth: Callable[[], float], running: Callable[[], list[float]]
) -> None:
    """Ask the work queue at every scrape; `running` is for how long each key is worked on."""
    _MOST_WORKERS.set(threads)
    _DEPTH.set_function(depth)
    _LONGEST.set_function(lambda: max(running(), default=0.0))
    _UNFINISHED.set_function(lambda: sum(running()))


def added() -> None:
    """A key became due that was not."""
    _ADDS.inc()


def taken(waited: float) -> None:
    """A thread took a key that was due for `waited` seconds."""
    _WAITED.observe(waited)


def worked(seconds: float) -> None:
    """A thread is done with a key, however that ended."""
    _WORKED.observe(seconds)


def retried() -> None:
    """A key is put back because its reconcile failed."""
    _RETRIES.inc()


def lead(lease: str, held: bool) -> None:
    """Whether this process holds the Lease."""
    _LEADER.labels(lease).set(held)
