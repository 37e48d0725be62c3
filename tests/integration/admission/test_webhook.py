"""The installed admission server as a process of its own, called by the real API server."""

from __future__ import annotations

import base64
import datetime
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest
import samples
import yaml
from cluster import toolchain
from cluster.fixtures import ControlPlane, free_ports
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from palimpsest.api.crd import RESOURCES

ROOT = Path(__file__).parents[3]
PALIMPSEST = str(Path(sys.executable).with_name("palimpsest"))
IMAGE = "registry.example/palimpsest@sha256:" + "1" * 64


@dataclass(frozen=True)
class Server:
    """A running admission server."""

    process: subprocess.Popen[bytes]
    port: int
    probes: int
    metrics: int
    certificates: Path
    log: Path

    def probe(self, path: str) -> tuple[int, str]:
        return _get(f"http://127.0.0.1:{self.probes}{path}")

    def serial(self) -> int:
        """The serial number of the certificate that a new connection is shown."""
        text = ssl.get_server_certificate(("127.0.0.1", self.port))
        return x509.load_pem_x509_certificate(text.encode()).serial_number


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except (urllib.error.URLError, OSError):
        return 0, ""


def _eventually(holds: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


class Authority:
    """A CA and the leaves it signs for 127.0.0.1."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test-ca")])
        self._certificate = self._sign(self._name, self._key, authority=True)

    @property
    def bundle(self) -> str:
        pem = self._certificate.public_bytes(serialization.Encoding.PEM)
        return base64.b64encode(pem).decode()

    def issue(self, directory: Path) -> int:
        """Write a new pair, as a Secret's volume swaps it; returns its serial number."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admission")])
        leaf = self._sign(name, key, authority=False)
        fresh = directory / f"..{uuid.uuid4().hex}"
        fresh.mkdir(parents=True)
        (fresh / "tls.crt").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        (fresh / "tls.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        link = directory / f"..link-{uuid.uuid4().hex}"
        link.symlink_to(fresh.name)
        link.rename(directory / "..data")
        return leaf.serial_number

    def _sign(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, authority: bool
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )


@contextmanager
def running(kubeconfig: Path, certificates: Path) -> Iterator[Server]:
    port, probes, metrics = free_ports(3)
    log = certificates.parent / f"admission-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(PALIMPSEST, "admission", f"--certificates={certificates}", "--host=127.0.0.1"),
                *(f"--port={port}", f"--probes-port={probes}", f"--metrics-port={metrics}"),
            ],
            env={**os.environ, "KUBECONFIG": str(kubeconfig)},
            stdout=output,
            stderr=output,
        )
        server = Server(process, port, probes, metrics, certificates, log)
        try:
            _eventually(lambda: server.probe("/healthz")[0] == 200, 20, "admission answers")
            yield server
        finally:
            process.terminate()
            assert process.wait(timeout=10) == 0, log.read_text()


@dataclass(frozen=True)
class World:
    """A control plane that asks the server."""

    plane: ControlPlane
    server: Server
    authority: Authority
    mark: str

    def name(self, role: str) -> str:
        return f"{role}-{self.mark}-{uuid.uuid4().hex[:6]}"

    def create(self, manifest: samples.Json, *options: str) -> str:
        text = json.dumps(manifest)
        return self.plane.kubectl("create", "-f", "-", *options, stdin=text, check=False)

    def budget(self, left: str) -> str:
        """A budget of which `left` is left; returns its name."""
        name = self.name("budget")
        manifest = samples.budget(name, self.mark)
        self.plane.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
        status = {
            "status": {
                "observedGeneration": 1,
                "gateOrder": 4,
                "shares": {"committed": "0.0000", "reserved": "0.0000", "left": left},
            }
        }
        self.plane.kubectl(
            *("patch", "privacybudget", name, "--subresource=status"),
            *("--type=merge", "-p", json.dumps(status)),
        )
        return name


@pytest.fixture(scope="module")
def world(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    control_plane.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    control_plane.kubectl(
        "wait",
        "--for=condition=Established",
        *(f"crd/{resource.plural}.palimpsest.dev" for resource in RESOURCES),
    )
    mark = f"adm-{uuid.uuid4().hex[:6]}"
    control_plane.kubectl("create", "namespace", mark)
    authority = Authority()
    certificates = tmp_path_factory.mktemp("admission") / "certificates"
    authority.issue(certificates)
    with running(control_plane.kubeconfig, certificates) as server:
        _eventually(lambda: server.probe("/readyz")[0] == 200, 10, "admission is ready")
        hook = _webhook(server.port, authority.bundle)
        control_plane.kubectl("apply", "-f", "-", stdin=json.dumps(hook))
        world = World(control_plane, server, authority, mark)
        try:
            bad = samples.changed(samples.budget(), "spec.allowedNamespaces.names", ["custody"])
            _eventually(
                lambda: "denied the request" in world.create(bad, "--dry-run=server"),
                15,
                "the API server asks the webhook",
            )
            yield world
        finally:
            control_plane.kubectl("delete", "-f", "-", stdin=json.dumps(hook))


def _webhook(port: int, bundle: str) -> samples.Json:
    """The chart's own configuration, with this machine's address in place of the Service."""
    values = {
        "images": {"operator": IMAGE, "stage": IMAGE},
        "stores": [{"endpoint": "http://127.0.0.1:9000", "secretName": "store"}],
        "custody": {},
    }
    done = subprocess.run(
        [
            *(str(toolchain.tools() / "helm"), "template", "palimpsest"),
            *(str(ROOT / "charts" / "palimpsest"), "--kube-version", "1.34.4"),
            *("--show-only", "templates/webhook.yaml", "--values", "-"),
        ],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        check=True,
    )
    (found,) = (
        each
        for each in yaml.safe_load_all(done.stdout)
        if each and each["kind"] == "ValidatingWebhookConfiguration"
    )
    found["webhooks"][0]["clientConfig"] = {
        "url": f"https://127.0.0.1:{port}/validate",
        "caBundle": bundle,
    }
    configuration: samples.Json = found
    return configuration


def test_overspending_is_denied_where_the_user_sees_it(world: World) -> None:
    budget = world.budget(left="0.1000")
    answer = world.create(samples.generator("greedy", world.mark, budget))
    assert 'admission webhook "validate.palimpsest.dev" denied the request: ' in answer
    assert "spec.privacy.epsilon: 4 does not fit: at most " in answer
    assert f'needs 23% of the gate of PrivacyBudget "{budget}", 10% is left' in answer
    found = world.plane.kubectl("get", "pgen", "greedy", "-n", world.mark, check=False)
    assert "NotFound" in found


def test_what_fits_is_created_and_its_warnings_are_shown(world: World) -> None:
    budget = world.budget(left="1.0000")
    assert world.create(samples.generator("modest", world.mark, budget)).strip().endswith("created")
    crowded = samples.changed(
        samples.dataset("crowded", world.mark, "modest"), "spec.resampling.clusters", 2999
    )
    wide = samples.changed(crowded, "spec.resampling.noiseMultiplier", "20")
    done = subprocess.run(
        [
            *(str(world.plane.binaries / "kubectl"), f"--kubeconfig={world.plane.kubeconfig}"),
            *("create", "-f", "-"),
        ],
        input=json.dumps(wide),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning: spec.resampling.clusters: noise alone moves the histogram" in done.stderr


def test_a_namespace_that_is_not_allowed_is_denied(world: World) -> None:
    budget = world.budget(left="1.0000")
    answer = world.create(samples.generator("stranger", "default", budget))
    assert f'PrivacyBudget "{budget}" does not allow namespace default' in answer


def test_a_generator_may_come_before_its_budget(world: World) -> None:
    early = samples.generator("early", world.mark, world.name("later"))
    assert world.create(early).strip().endswith("created")


def test_a_budget_outlives_a_careless_delete(world: World) -> None:
    budget = world.budget(left="1.0000")
    answer = world.plane.kubectl("delete", "privacybudget", budget, check=False)
    assert "is not deleted without its custodian's word" in answer
    word = "palimpsest.dev/confirm-delete=true"
    world.plane.kubectl("annotate", "privacybudget", budget, word)
    world.plane.kubectl("delete", "privacybudget", budget)


def test_a_namespace_with_resources_in_it_can_be_deleted(world: World) -> None:
    namespace = world.name("gone")
    budget = world.budget(left="1.0000")
    allowed = ["get", "privacybudget", budget, "-o", "json"]
    manifest = json.loads(world.plane.kubectl(*allowed))
    manifest["spec"]["allowedNamespaces"]["names"].append(namespace)
    world.plane.kubectl("replace", "-f", "-", stdin=json.dumps(manifest))
    world.plane.kubectl("create", "namespace", namespace)
    world.plane.kubectl(
        "create", "-f", "-", stdin=json.dumps(samples.generator("x", namespace, budget))
    )
    world.plane.kubectl("delete", "namespace", namespace, "--timeout=60s")


def test_decisions_are_counted_without_names(world: World) -> None:
    world.create(samples.budget(world.name("counted")), "--dry-run=server")
    _, text = _get(f"http://127.0.0.1:{world.server.metrics}/metrics")
    line = 'palimpsest_admission_decisions_total{kind="PrivacyBudget",operation="CREATE",outcome='
    assert line + '"allowed"}' in text
    assert world.mark not in text


def test_a_new_certificate_is_served_without_a_failed_call(world: World) -> None:
    before = world.server.serial()
    issued = world.authority.issue(world.server.certificates)
    assert issued != before
    probe = samples.budget(world.name("rotation"))

    def renewed() -> bool:
        assert "created" in world.create(probe, "--dry-run=server")
        return world.server.serial() == issued

    _eventually(renewed, 15, "the new certificate is served")


def test_half_a_pair_leaves_the_old_certificate(world: World) -> None:
    before = world.server.serial()
    good = (world.server.certificates / "..data").resolve()
    broken = world.server.certificates / "..broken"
    broken.mkdir()
    (broken / "tls.crt").write_bytes((good / "tls.crt").read_bytes())
    (broken / "tls.key").write_text("no key")
    link = world.server.certificates / "..link"
    link.symlink_to(broken.name)
    link.rename(world.server.certificates / "..data")
    _eventually(
        lambda: "certificate not loaded" in world.server.log.read_text(), 15, "the file was tried"
    )
    assert world.server.serial() == before
    answer = world.create(samples.budget(world.name("still")), "--dry-run=server")
    assert "created" in answer


def test_without_a_certificate_it_is_alive_but_not_ready(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    empty = tmp_path / "certificates"
    empty.mkdir()
    with running(control_plane.kubeconfig, empty) as server:
        assert server.probe("/readyz") == (503, "no certificate loaded")
        Authority().issue(empty)
        _eventually(lambda: server.probe("/readyz")[0] == 200, 15, "the certificate is taken up")


def test_without_the_api_server_it_is_not_ready(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    kubeconfig = yaml.safe_load(control_plane.kubeconfig.read_text())
    kubeconfig["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    Authority().issue(tmp_path / "certificates")
    with running(tmp_path / "kubeconfig", tmp_path / "certificates") as server:
        assert server.probe("/readyz") == (503, "the API server does not answer")


def test_when_the_webhook_is_gone_specs_wait_and_the_rest_goes_on(world: World) -> None:
    """failurePolicy Fail closes the door; annotations, finalizers and deletions do not need it."""
    name = world.name("orphan")
    finalized = samples.changed(
        samples.generator(name, world.mark, world.budget(left="1.0000")),
        "metadata.finalizers",
        ["palimpsest.dev/test"],
    )
    assert "created" in world.create(finalized)
    leaving = _leaving_budget(world)
    world.server.process.terminate()
    world.server.process.wait(timeout=10)
    assert "failed calling webhook" in world.create(samples.generator("late", world.mark))
    resource = ("pgen", name, "-n", world.mark)
    world.plane.kubectl("annotate", *resource, "note=kept")
    world.plane.kubectl("delete", *resource, "--wait=false")
    world.plane.kubectl(
        "patch", *resource, "--type=merge", "-p", '{"metadata":{"finalizers":null}}'
    )
    assert "NotFound" in world.plane.kubectl("get", *resource, check=False)
    # What is on its way out is not asked about again.
    world.plane.kubectl("delete", *leaving, "--wait=false")
    world.plane.kubectl("patch", *leaving, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert "NotFound" in world.plane.kubectl("get", *leaving, check=False)


def _leaving_budget(world: World) -> tuple[str, str]:
    """A budget whose deletion is confirmed and waits for a finalizer."""
    budget = ("privacybudget", world.budget(left="1.0000"))
    metadata = {
        "finalizers": ["palimpsest.dev/test"],
        "annotations": {"palimpsest.dev/confirm-delete": "true"},
    }
    patch = json.dumps({"metadata": metadata})
    world.plane.kubectl("patch", *budget, "--type=merge", "-p", patch)
    world.plane.kubectl("delete", *budget, "--wait=false")
    return budget
