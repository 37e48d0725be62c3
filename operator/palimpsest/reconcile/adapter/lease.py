"""Leader election by a Lease, so that one replica reconciles; the journal needs no leader."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from kubernetes.client import CoordinationV1Api, V1Lease, V1LeaseSpec, V1ObjectMeta
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from palimpsest.telemetry import workers

log = logging.getLogger(__name__)

DURATION = 15.0
RENEW_SECONDS = 5.0
RETRY_SECONDS = 1.0
NAME = "palimpsest-operator"
# Seconds that a call may take, of a few tries: a Lease waited for longer may be another's by then.
TIMEOUT = 3.0
# The API server says no, or says nothing.
UNANSWERED = (ApiException, HTTPError)


@dataclass(frozen=True)
class _Seen:
    """A Lease as another holds it, and since when by our clock it says so."""

    holder: str | None
    renewed: datetime | None
    since: float


class Lease:
    """Holds the Lease `palimpsest-operator` in `namespace` as `identity`."""

    def __init__(self, api: CoordinationV1Api, namespace: str, identity: str) -> None:
        self._api = api
        self._namespace = namespace
        self._identity = identity
        self._stop = threading.Event()
        # By our own clock, which nobody sets: another node's may differ, and a node's jump.
        self._renewed = time.monotonic()
        self._seen = _Seen(None, None, 0.0)
        workers.lead(NAME, False)

    def acquire(self) -> None:
        """Wait until the Lease is ours (returns early when released)."""
        announced = False
        while not self._stop.is_set():
            try:
                if self._try():
                    workers.lead(NAME, True)
                    return
            except UNANSWERED as error:
                if getattr(error, "status", None) in (401, 403, 404):
                    raise  # this does not go by itself
                log.warning("lease not asked for", extra={"error": type(error).__name__})
                self._stop.wait(RETRY_SECONDS)
                continue
            if not announced:
                log.info("waiting for the lease", extra={"lease": NAME})
                announced = True
            self._stop.wait(RENEW_SECONDS)

    def keep(self, lost: Callable[[], None]) -> None:
        """Renew in a thread; call `lost` once if it could not be renewed in time."""

        def renew() -> None:
            while not self._stop.wait(RENEW_SECONDS):
                try:
                    # Once more: a conflict may be the echo of our own write, its answer lost.
                    held = self._try() or self._try()
                except UNANSWERED:
                    held = time.monotonic() - self._renewed < DURATION
                if not held:
                    log.error("lease lost", extra={"lease": NAME})
                    workers.lead(NAME, False)
                    lost()
                    return

        threading.Thread(target=renew, name="lease", daemon=True).start()

    def release(self) -> None:
        """Let another replica in at once."""
        self._stop.set()
        workers.lead(NAME, False)
        try:
            lease = self._read()
            if lease.spec.holder_identity == self._identity:
                lease.spec.holder_identity = None
                self._replace(lease)
        except UNANSWERED:
            log.info("lease not released; it expires by itself", extra={"lease": NAME})

    def _try(self) -> bool:
        now = datetime.now(UTC)
        spec = V1LeaseSpec(
            holder_identity=self._identity,
            lease_duration_seconds=int(DURATION),
            acquire_time=now,
            renew_time=now,
        )
        try:
            lease = self._read()
        except ApiException as error:
            if error.status != 404:
                raise
            body = V1Lease(metadata=V1ObjectMeta(name=NAME), spec=spec)
            return self._write(
                lambda: self._api.create_namespaced_lease(
                    self._namespace, body, _request_timeout=TIMEOUT
                )
            )
        held = lease.spec
        if held.holder_identity not in (None, "", self._identity) and self._renews(held):
            return False
        if held.holder_identity == self._identity:
            spec.acquire_time = held.acquire_time
        lease.spec = spec
        return self._write(lambda: self._replace(lease))

    def _renews(self, held: V1LeaseSpec) -> bool:
        """Whether its holder may still hold it: not unchanged for as long as a Lease lasts."""
        if (held.holder_identity, held.renew_time) != (self._seen.holder, self._seen.renewed):
            self._seen = _Seen(held.holder_identity, held.renew_time, time.monotonic())
        return time.monotonic() - self._seen.since < DURATION

    def _read(self) -> V1Lease:
        return self._api.read_namespaced_lease(NAME, self._namespace, _request_timeout=TIMEOUT)

    def _replace(self, lease: V1Lease) -> None:
        self._api.replace_namespaced_lease(NAME, self._namespace, lease, _request_timeout=TIMEOUT)

    def _write(self, write: Callable[[], object]) -> bool:
        try:
            write()
        except ApiException as error:
            if error.status == 409:
                return False
            raise
        self._renewed = time.monotonic()
        return True
