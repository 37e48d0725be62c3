"""A deduplicating work queue: one key is worked on by one thread at a time, failures back off.

The shape of client-go's: a key added while it is being worked on runs once more afterwards, and of
several times at which a key is to be due again the earliest counts, alone.
"""

import heapq
import logging
import math
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from palimpsest.telemetry import logs, workers

Key = TypeVar("Key", bound=Hashable)
log = logging.getLogger(__name__)

FIRST_BACKOFF = 0.5
LONGEST_BACKOFF = 120.0


@dataclass(order=True)
class _Due(Generic[Key]):
    at: float
    key: Key = field(compare=False)


class WorkQueue(Generic[Key]):
    """Keys to reconcile."""

    def __init__(self, threads: int = 4) -> None:
        self._lock = threading.Condition()
        # Since when a key is due, and since when it is worked on.
        self._ready: dict[Key, float] = {}
        self._active: dict[Key, float] = {}
        # What is no longer a key's time in `_due` is passed over when it comes up in the heap.
        self._delayed: list[_Due[Key]] = []
        self._due: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._stopping = False
        self._count = threads
        self._threads: list[threading.Thread] = []

    def start(self, work: Callable[[Key], float | None]) -> None:
        """Work in threads; `work(key)` returns seconds until the key is due again, or None."""
        for index in range(self._count):
            thread = threading.Thread(
                target=self._run, args=(work,), name=f"reconcile-{index}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def stop(self, grace: float = 10.0) -> None:
        """Take no new work and wait up to `grace` seconds for what is under way."""
        with self._lock:
            self._stopping = True
            self._lock.notify_all()
        deadline = time.monotonic() + grace
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def add(self, key: Key, delay: float = 0.0) -> None:
        """Make a key due now or after `delay` seconds."""
        with self._lock:
            if delay > 0:
                at = time.monotonic() + delay
                if at < self._due.get(key, math.inf):
                    self._due[key] = at
                    heapq.heappush(self._delayed, _Due(at, key))
            else:
                self._make_due(key, time.monotonic())
            self._lock.notify()

    def __len__(self) -> int:
        """Keys that are due now."""
        with self._lock:
            return len(self._ready)

    @property
    def threads(self) -> int:
        """How many keys may be worked on at once."""
        return self._count

    def running(self) -> list[float]:
        """Seconds for which each key that is worked on has been."""
        with self._lock:
            now = time.monotonic()
            return [now - since for since in self._active.values()]

    def _make_due(self, key: Key, now: float) -> None:
        if key not in self._ready:
            self._ready[key] = now
            workers.added()

    def _take(self) -> Key | None:
        with self._lock:
            while not self._stopping:
                now = time.monotonic()
                while self._delayed and self._delayed[0].at <= now:
                    passed = heapq.heappop(self._delayed)
                    if self._due.get(passed.key) == passed.at:
                        del self._due[passed.key]
                        self._make_due(passed.key, now)
                for key, since in self._ready.items():
                    if key not in self._active:
                        del self._ready[key]
                        self._active[key] = now
                        workers.taken(now - since)
                        return key
                self._lock.wait(self._delayed[0].at - now if self._delayed else None)
        return None

    def _run(self, work: Callable[[Key], float | None]) -> None:
        while (key := self._take()) is not None:
            # What the work says that it is about is told of its failure too.
            with logs.scope():
                delay = self._work(key, work)
            with self._lock:
                since = self._active.pop(key)
                self._lock.notify()
            workers.worked(time.monotonic() - since)
            if delay is not None:
                self.add(key, max(delay, 0.001))

    def _work(self, key: Key, work: Callable[[Key], float | None]) -> float | None:
        try:
            delay = work(key)
        except Exception as error:
            failures = self._failures.get(key, 0)
            self._failures[key] = failures + 1
            backoff = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(failures, 10))
            # The class alone: messages may quote objects.
            log.warning(
                "reconcile failed",
                extra={"error": type(error).__name__, "retry_seconds": backoff},
            )
            log.debug("reconcile failed", exc_info=True)
            workers.retried()
            return backoff
        self._failures.pop(key, None)
        return delay
