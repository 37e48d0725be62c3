"""Keeps the admission webhook's certificates: two Secrets and the caBundle at the API server."""

import base64
import binascii
import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from kubernetes.client.exceptions import ApiException

from palimpsest.api.base import duration
from palimpsest.api.config import AdmissionCertificates
from palimpsest.certificates.issue import (
    make_authority,
    make_leaf,
    read_authority,
    read_bundle,
    read_leaf,
)
from palimpsest.certificates.rotation import (
    Action,
    Issue,
    MakeAuthority,
    Memory,
    Observed,
    Policy,
    Publish,
    Record,
    decide,
    pems,
    watch,
)
from palimpsest.reconcile.adapter.cluster import Cluster, ConflictError
from palimpsest.telemetry import admission

log = logging.getLogger(__name__)

AUTHORITY_SECRET = "palimpsest-admission-ca"  # noqa: S105 - a name
LEAF_SECRET = "palimpsest-admission-tls"  # noqa: S105 - a name
WEBHOOK = "palimpsest-admission"
LOOK_SECONDS = 2.0
_WEBHOOK_PATH = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/" + WEBHOOK
_SPELLED = {
    MakeAuthority: "new CA made",
    Publish: "CA bundle published",
    Issue: "certificate issued",
    Record: "CA bundle recorded",
}


class CertificateKeeper:
    """One look and one step at a time."""

    def __init__(self, cluster: Cluster, namespace: str, config: AdmissionCertificates) -> None:
        self._cluster = cluster
        self._secrets = f"/api/v1/namespaces/{namespace}/secrets"
        self._policy = Policy(
            names=frozenset(config.names),
            authority_life=duration(config.ca_lifetime),
            leaf_life=duration(config.leaf_lifetime),
            renew_after=config.renew_after_percent / 100,
            trust_wait=duration(config.trust_wait),
            retire_wait=duration(config.retire_wait),
        )
        self._memory = Memory()

    def keep(self, stopping: Callable[[], bool]) -> None:
        """Look and act until `stopping`; a failure is tried again at the next look."""
        pause = threading.Event()
        while not stopping():
            try:
                acted = self.step()
            except ConflictError:
                acted = False
            except Exception as error:
                acted = False
                log.warning(
                    "admission certificates not kept",
                    extra={"error": type(error).__name__, "status": getattr(error, "status", None)},
                )
            if not acted:
                pause.wait(LOOK_SECONDS)

    def step(self) -> bool:
        """Look, and do what comes next; whether there was something to do.

        Raises ApiException, or ConflictError if somebody else wrote meanwhile.
        """
        authority = self._cluster.get(f"{self._secrets}/{AUTHORITY_SECRET}")
        leaf = self._cluster.get(f"{self._secrets}/{LEAF_SECRET}")
        webhook = self._cluster.get(_WEBHOOK_PATH)
        observed = _observe(authority, leaf, webhook)
        _measure(observed)
        clock, now = time.monotonic(), datetime.now(UTC)
        self._memory = watch(self._memory, observed, clock)
        action = decide(observed, self._memory, self._policy, now, clock)
        if action is None:
            return False
        self._act(action, authority, leaf, webhook, now)
        log.info(_SPELLED[type(action)])
        return True

    def _act(self, action: Action, authority: Any, leaf: Any, webhook: Any, now: datetime) -> None:
        match action:
            case MakeAuthority():
                certificate, key = make_authority(self._policy.authority_life, now)
                data = {"ca.crt": certificate, "ca.key": key}
                self._write(AUTHORITY_SECRET, "Opaque", authority, data)
            case Publish(bundle):
                self._publish(webhook, pems(bundle).encode())
            case Issue(bundle):
                pair = (_data(authority, "ca.crt"), _data(authority, "ca.key"))
                life = self._policy.leaf_life
                certificate, key = make_leaf(pair, self._policy.names, life, now)
                data = {"ca.crt": pems(bundle).encode(), "tls.crt": certificate, "tls.key": key}
                self._write(LEAF_SECRET, "kubernetes.io/tls", leaf, data)
            case Record(bundle):
                data = {"ca.crt": pems(bundle).encode()}
                self._write(LEAF_SECRET, "kubernetes.io/tls", leaf, data)

    def _write(self, name: str, kind: str, found: Any, data: Mapping[str, bytes]) -> None:
        """Create the Secret, or replace what was read: the resourceVersion goes with it."""
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        if found is None:
            metadata = {"name": name, "labels": {"app.kubernetes.io/name": "palimpsest"}}
            body = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": metadata,
                "type": kind,
                "data": encoded,
            }
            self._fenced("POST", self._secrets, body)
        else:
            body = {**found, "data": {**(found.get("data") or {}), **encoded}}
            self._fenced("PUT", f"{self._secrets}/{name}", body)

    def _publish(self, webhook: Any, bundle: bytes) -> None:
        """Write the caBundle alone: service or URL, rules and policies are the chart's."""
        encoded = base64.b64encode(bundle).decode()
        body = {
            "metadata": {"resourceVersion": webhook["metadata"]["resourceVersion"]},
            "webhooks": [
                {"name": each["name"], "clientConfig": {"caBundle": encoded}}
                for each in webhook["webhooks"]
            ],
        }
        self._fenced("PATCH", _WEBHOOK_PATH, body, "application/strategic-merge-patch+json")

    def _fenced(
        self, method: str, path: str, body: Any, content_type: str = "application/json"
    ) -> None:
        try:
            self._cluster.call(method, path, body, content_type=content_type)
        except ApiException as error:
            if error.status == 409:
                raise ConflictError from error
            raise


def _observe(authority: Any, leaf: Any, webhook: Any) -> Observed:
    signer = read_authority(_data(authority, "ca.crt"), _data(authority, "ca.key"))
    recorded = read_bundle(_data(leaf, "ca.crt"))
    published = None if not webhook or not webhook.get("webhooks") else _published(webhook)
    known = (*((signer,) if signer else ()), *recorded, *(published or ()))
    return Observed(
        authority=signer,
        leaf=read_leaf(_data(leaf, "tls.crt"), _data(leaf, "tls.key"), known),
        recorded=recorded,
        published=published,
    )


def _published(webhook: Any) -> tuple[Any, ...]:
    """The caBundle, if all webhooks of the configuration have the same."""
    texts = {each["clientConfig"].get("caBundle") or "" for each in webhook["webhooks"]}
    return read_bundle(_decoded(texts.pop())) if len(texts) == 1 else ()


def _data(secret: Any, key: str) -> bytes:
    return _decoded(((secret or {}).get("data") or {}).get(key) or "")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except binascii.Error:
        return b""


def _measure(observed: Observed) -> None:
    for name, found in (("ca", observed.authority), ("leaf", observed.leaf)):
        admission.observe_certificate(name, found.expires.timestamp() if found else None)
