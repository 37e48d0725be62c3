"""The work queue: serial by key, parallel across keys, backoff, delayed requeue."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

import pytest
from palimpsest.reconcile.adapter import workqueue
from palimpsest.reconcile.adapter.workqueue import WorkQueue
from prometheus_client import REGISTRY


def wait(check: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.005)


def test_a_key_added_while_it_is_worked_on_runs_once_more_and_never_beside_itself() -> None:
    active, runs, overlaps = set[str](), list[str](), list[str]()
    gate = threading.Event()

    def work(key: str) -> float | None:
        if key in active:
            overlaps.append(key)
        active.add(key)
        runs.append(key)
        gate.wait(5)
        active.discard(key)
        return None

    queue: WorkQueue[str] = WorkQueue(threads=4)
    queue.start(work)
    queue.add("a")
    wait(lambda: runs == ["a"])
    for _ in range(20):
        queue.add("a")
    queue.add("b")
    wait(lambda: "b" in runs)
    gate.set()
    wait(lambda: runs.count("a") == 2)
    time.sleep(0.05)
    queue.stop()
    assert sorted(runs) == ["a", "a", "b"]
    assert overlaps == []


def test_it_tells_for_how_long_each_key_has_been_worked_on() -> None:
    gate = threading.Event()
    queue: WorkQueue[str] = WorkQueue(threads=2)
    before = work_durations()

    def work(_: str) -> float | None:
        gate.wait(5)
        return None

    queue.start(work)
    queue.add("a")
    wait(lambda: len(queue.running()) == 1)
    time.sleep(0.1)
    queue.add("b")
    wait(lambda: len(queue.running()) == 2)
    later, sooner = sorted(queue.running())
    assert sooner - later >= 0.1
    gate.set()
    wait(lambda: not queue.running())
    queue.stop()
    count, total = work_durations()
    assert count - before[0] == 2
    assert total - before[1] >= 0.1


def work_durations() -> tuple[float, float]:
    """Count and sum of what the metric has."""
    name = "palimpsest_workqueue_work_duration_seconds"
    told = [REGISTRY.get_sample_value(f"{name}_{part}") for part in ("count", "sum")]
    return told[0] or 0.0, told[1] or 0.0


def test_failures_back_off_and_success_forgets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workqueue, "FIRST_BACKOFF", 0.02)
    moments: list[float] = []

    def work(_: str) -> float | None:
        moments.append(time.monotonic())
        if len(moments) < 4:
            raise RuntimeError("no")
        return None

    queue: WorkQueue[str] = WorkQueue(threads=1)
    queue.start(work)
    queue.add("a")
    wait(lambda: len(moments) == 4)
    queue.stop()
    gaps = [after - before for before, after in itertools.pairwise(moments)]
    assert gaps[0] >= 0.02
    assert gaps[1] >= 0.04
    assert gaps[2] >= 0.08


def test_a_returned_delay_requeues() -> None:
    runs: list[float] = []

    def work(_: str) -> float | None:
        runs.append(time.monotonic())
        return 0.05 if len(runs) < 3 else None

    queue: WorkQueue[str] = WorkQueue(threads=2)
    queue.start(work)
    queue.add("a", delay=0.05)
    wait(lambda: len(runs) == 3)
    queue.stop()
    assert runs[2] - runs[0] >= 0.1


def test_of_several_times_of_a_key_the_earliest_counts_alone() -> None:
    moments: list[float] = []

    def work(_: str) -> float | None:
        moments.append(time.monotonic())
        return 0.2

    queue: WorkQueue[str] = WorkQueue(threads=2)
    queue.start(work)
    for _ in range(20):
        queue.add("a")
        queue.add("a", 5.0)
        time.sleep(0.02)
    woken = time.monotonic()
    wait(lambda: moments[-1] > woken + 1)
    queue.stop()
    after = [at for at in moments if at > woken]
    # Five were due; a timer of each wake's own would have made a hundred.
    assert len(after) <= 8
