"""The installed operator rotates leaf and CA while the API server calls the webhook."""

from __future__ import annotations

import base64
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import samples
import yaml
from cluster.fixtures import ControlPlane, ObjectStore
from integration.admission.ground import Server, running, webhook
from integration.reconcile.harness import World
from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException
from kubernetes.config import new_client_from_config
from palimpsest.certificates.issue import read_bundle
from palimpsest.reconcile.adapter.cluster import Cluster

TLS, AUTHORITY = "palimpsest-admission-tls", "palimpsest-admission-ca"
HOOK = "validatingwebhookconfiguration"
BUDGETS = "/apis/palimpsest.dev/v1alpha1/privacybudgets"
# Short, so that a test sees several lives; the waits are longer than this control plane's lag.
TIMES = {
    "caLifetime": "10h",
    "leafLifetime": "30s",
    "renewAfterPercent": 33,
    "trustWait": "4s",
    "retireWait": "8s",
}


@dataclass
class Load:
    """Creations that never happen, one after the other."""

    cluster: Cluster
    calls: int = 0
    failures: list[str] = field(default_factory=list)

    @contextmanager
    def constant(self) -> Iterator[None]:
        stop = threading.Event()

        def call() -> None:
            manifest = samples.budget(f"load-{uuid.uuid4().hex[:8]}")
            while not stop.wait(0.02):
                self.calls += 1
                try:
                    self.cluster.call("POST", BUDGETS, manifest, {"dryRun": "All"})
                except ApiException as error:
                    self.failures.append(str(error.body))

        threads = [threading.Thread(target=call) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()


@dataclass(frozen=True)
class Installed:
    """Operator, admission and the test in the kubelet's place, which brings the Secret."""

    world: World
    server: Server
    cluster: Cluster

    def data(self, secret: str, key: str) -> bytes:
        found = self.world.get("secret", secret, self.world.tenant).get("data", {})
        return base64.b64decode(found.get(key, ""))

    def hook(self) -> dict[str, Any]:
        found: dict[str, Any] = self.world.get(HOOK, "palimpsest-admission")["webhooks"][0]
        return found

    def published(self) -> list[str]:
        bundle = base64.b64decode(self.hook()["clientConfig"].get("caBundle", ""))
        return [each.pem for each in read_bundle(bundle)]

    def authority(self) -> str:
        return self.data(AUTHORITY, "ca.crt").decode()

    def delete(self, secret: str) -> None:
        self.world.plane.kubectl("delete", "secret", secret, "-n", self.world.tenant)

    def called(self) -> bool:
        try:
            self.cluster.call("POST", BUDGETS, samples.budget("probe"), {"dryRun": "All"})
        except ApiException:
            return False
        return True


def _carry(cluster: Cluster, namespace: str, folder: Path, stop: threading.Event) -> None:
    """Write the Secret as a kubelet does: a new folder, then the link moved over."""
    seen: Any = None
    while not stop.wait(0.5):
        secret = cluster.get(f"/api/v1/namespaces/{namespace}/secrets/{TLS}")
        if secret is None or secret["data"] == seen:
            continue
        seen = secret["data"]
        fresh = folder / f"..{uuid.uuid4().hex}"
        fresh.mkdir()
        for name, value in seen.items():
            (fresh / name).write_bytes(base64.b64decode(value))
        link = folder / "..link"
        link.symlink_to(fresh.name)
        link.rename(folder / "..data")


@pytest.fixture
def installed(
    control_plane: ControlPlane, object_store: ObjectStore, tmp_path: Path
) -> Iterator[Installed]:
    world = World(control_plane, object_store, tmp_path)
    world.prepare()
    config = tmp_path / "config.yaml"
    text = yaml.safe_load(config.read_text())
    kept = {"admissionCertificates": {"names": ["127.0.0.1"], **TIMES}}
    config.write_text(yaml.safe_dump({**text, **kept}))
    client: ApiClient = new_client_from_config(str(control_plane.kubeconfig))
    cluster = Cluster(client)
    folder = tmp_path / "certificates"
    folder.mkdir()
    stop = threading.Event()
    carrier = threading.Thread(target=_carry, args=(cluster, world.tenant, folder, stop))
    carrier.start()
    with running(control_plane.kubeconfig, folder) as server:
        assert server.probe("/readyz") == (503, "no certificate loaded")
        hook = webhook(server.port)
        control_plane.kubectl("apply", "-f", "-", stdin=json.dumps(hook))
        try:
            world.start()
            made = Installed(world, server, cluster)
            world.until("the first certificate is served and trusted", made.called, 30)
            yield made
        finally:
            control_plane.kubectl("delete", "-f", "-", stdin=json.dumps(hook))
            world.kill()
            stop.set()
            carrier.join()


def _changes(what: Callable[[], Any], count: int, seconds: float) -> int:
    """Wait until `what` has changed so often; how often it did."""
    seen, changes, deadline = what(), 0, time.monotonic() + seconds
    while changes < count and time.monotonic() < deadline:
        time.sleep(0.3)
        if (now := what()) != seen:
            seen, changes = now, changes + 1
    return changes


def _replace_authority(installed: Installed) -> None:
    """Delete the CA's Secret and wait until its successor is the only one that is trusted."""
    old = installed.authority()
    installed.delete(AUTHORITY)

    def alone() -> bool:
        return installed.published() == [installed.authority()] != [old]

    installed.world.until("a new CA stands alone", alone, 40)


def test_no_call_fails_while_leaf_and_ca_are_rotated(
    installed: Installed, capsys: pytest.CaptureFixture[str]
) -> None:
    load = Load(installed.cluster)
    with load.constant():
        leaves = _changes(installed.server.serial, 2, 60)
        for _ in range(2):
            served = installed.server.serial()
            _replace_authority(installed)
            leaves += installed.server.serial() != served
    with capsys.disabled():
        print(f"\n{load.calls} calls, {leaves} leaves, 2 CAs, {len(load.failures)} failed")
    assert leaves == 4
    assert load.calls > 500
    assert load.failures == []


def test_what_is_lost_is_made_again_and_an_upgrade_keeps_the_bundle(installed: Installed) -> None:
    world, plane = installed.world, installed.world.plane
    first = installed.published()
    # The webhook is called by URL here, and stays so.
    url = installed.hook()["clientConfig"]["url"]
    assert url.startswith("https://127.0.0.1:")

    hook = webhook(installed.server.port)
    hook["webhooks"][0]["timeoutSeconds"] = 7
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(hook))
    assert (installed.hook()["timeoutSeconds"], installed.published()) == (7, first)
    hook["webhooks"][0]["timeoutSeconds"] = 8
    plane.kubectl(
        *("apply", "--server-side", "--force-conflicts", "--field-manager=helm", "-f", "-"),
        stdin=json.dumps(hook),
    )
    assert (installed.hook()["timeoutSeconds"], installed.published()) == (8, first)

    wipe = '[{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]'
    plane.kubectl("patch", HOOK, "palimpsest-admission", "--type=json", "-p", wipe)
    world.until("the bundle is back", lambda: installed.published() == first, 10)

    installed.delete(TLS)
    world.until("the leaf is back", lambda: installed.data(TLS, "tls.crt"), 10)
    damaged = json.dumps({"data": {"tls.key": base64.b64encode(b"no key").decode()}})
    plane.kubectl("patch", "secret", TLS, "-n", world.tenant, "--type=merge", "-p", damaged)
    world.until("the key is whole", lambda: b"PRIVATE" in installed.data(TLS, "tls.key"), 10)
    assert installed.hook()["clientConfig"]["url"] == url
    world.until("calls come through", installed.called, 20)
    assert b"ca.key" not in json.dumps(world.get("secret", TLS, world.tenant)["data"]).encode()
