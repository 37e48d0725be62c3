"""The installed admission server as a process of its own, and the API server that asks it."""

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

import samples
import yaml
from cluster import toolchain
from cluster.fixtures import ControlPlane, free_ports
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

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
        return fetch(f"http://127.0.0.1:{self.probes}{path}")

    def serial(self) -> int:
        """The serial number of the certificate that a new connection is shown."""
        text = ssl.get_server_certificate(("127.0.0.1", self.port))
        return x509.load_pem_x509_certificate(text.encode()).serial_number


def fetch(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except (urllib.error.URLError, OSError):
        return 0, ""


def eventually(holds: Callable[[], bool], seconds: float, what: str) -> None:
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
        return base64.b64encode(self.pem.encode()).decode()

    @property
    def pem(self) -> str:
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

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
            eventually(lambda: server.probe("/healthz")[0] == 200, 20, "admission answers")
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


def webhook(port: int, bundle: str | None = None) -> samples.Json:
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
    client = {"url": f"https://127.0.0.1:{port}/validate"}
    found["webhooks"][0]["clientConfig"] = client | ({"caBundle": bundle} if bundle else {})
    configuration: samples.Json = found
    return configuration
