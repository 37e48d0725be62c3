"""When things happened in a cluster, as watches told it, on this process's monotonic clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from kubernetes.client import ApiClient, CoreV1Api
from kubernetes.watch import Watch
from urllib3.exceptions import HTTPError

SECONDS = 180.0


class Sightings:
    """Pods that were made and containers that the kubelet started, by namespace and pod.

    A start is the kubelet's own Event: it is sent at once, where the pod's status waits for the
    kubelet's next look at its containers, a second later at most, and holds whole seconds. What is
    added to either is the way of a watch, milliseconds.
    """

    def __init__(self, held: ExitStack, client: ApiClient) -> None:
        self._turn = threading.Condition()
        self._made: dict[tuple[str, str], float] = {}
        self._started: dict[tuple[str, str], float] = {}
        core = CoreV1Api(client)
        self._follow(held, core.list_pod_for_all_namespaces, self._made, "metadata")
        self._follow(
            held,
            core.list_event_for_all_namespaces,
            self._started,
            "involvedObject",
            field_selector="reason=Started",
        )

    def made(self, namespace: str, prefix: str) -> float:
        """When the first pod of that name was there."""
        return self._seen(self._made, namespace, prefix)

    def started(self, namespace: str, prefix: str) -> float:
        """When the first container of a pod of that name ran."""
        return self._seen(self._started, namespace, prefix)

    def _seen(self, seen: dict[tuple[str, str], float], namespace: str, prefix: str) -> float:
        def first() -> float | None:
            return min(
                (
                    at
                    for (where, name), at in seen.items()
                    if where == namespace and name.startswith(prefix)
                ),
                default=None,
            )

        with self._turn:
            at = self._turn.wait_for(first, SECONDS)
        assert at, f"{namespace}/{prefix}: not seen in {SECONDS:.0f} s"
        return at

    def _follow(
        self,
        held: ExitStack,
        listed: Callable[..., Any],
        seen: dict[tuple[str, str], float],
        names: str,
        **selected: str,
    ) -> None:
        watch, over = Watch(), threading.Event()
        # What was there before is no sighting.
        version = listed(limit=1).metadata.resource_version

        def follow() -> None:
            try:
                for event in watch.stream(listed, resource_version=version, **selected):
                    at, which = time.monotonic(), event["raw_object"][names]
                    with self._turn:
                        seen.setdefault((which["namespace"], which["name"]), at)
                        self._turn.notify_all()
            except HTTPError:
                # To stop a watch is to cut it off.
                if not over.is_set():
                    raise

        threading.Thread(target=follow, name=f"watch-{names}", daemon=True).start()
        held.callback(watch.stop)
        held.callback(over.set)
