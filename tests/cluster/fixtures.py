"""Pytest fixtures: a control plane without a node, and an object store, one of each a test run.

The store is versitygw, which the demo runs too, or MinIO with `--object-store=minio`.

Both listen on free loopback ports, keep their files in a temporary folder and end with the run.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cluster import programs, store, toolchain
from cluster.report import ClusterError

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

STORE_OPTION = "--object-store"


@dataclass(frozen=True)
class ControlPlane:
    """etcd, kube-apiserver, kube-controller-manager; no scheduler, no node: pods stay Pending."""

    kubeconfig: Path
    server: str
    binaries: Path
    folder: Path

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """kubectl's standard output; fails the test with its error unless `check` is off."""
        done = subprocess.run(
            [self.binaries / "kubectl", f"--kubeconfig={self.kubeconfig}", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}")
        return done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def helm(self, values: dict[str, Any], *arguments: str | Path) -> str:
        """helm's output, with values where there are any; fails the test with its error."""
        more = ("--values", "-") if values else ()
        done = subprocess.run(
            [toolchain.tools() / "helm", f"--kubeconfig={self.kubeconfig}", *arguments, *more],
            input=json.dumps(values),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise AssertionError(f"helm {arguments[0]}: {done.stderr}{done.stdout}")
        return done.stdout


@dataclass(frozen=True)
class ObjectStore:
    """A store with the demo's buckets and accounts.

    `separate_rights`: every account may do what its policy says, not everything.
    """

    endpoint: str
    credentials: dict[str, store.Credentials]
    separate_rights: bool = True

    def client(self, account: str) -> S3Client:
        """A boto3 client as `root`, `custodian`, `operator` or `tenant`."""
        return store.client(self.endpoint, self.credentials[account])


class Site:
    """The addresses, keys and files of a control plane that can be run, stopped and run again."""

    def __init__(self, folder: Path) -> None:
        api, etcd, peer, controllers = free_ports(4)
        self.folder = folder
        self._at = programs.Addresses(
            address="127.0.0.1",
            api_port=api,
            etcd_client_port=etcd,
            etcd_peer_port=peer,
            controller_port=controllers,
            service_cidr="10.0.0.0/24",
            first_service="10.0.0.1",
        )
        self._keys = programs.make_keys(folder / "pki", self._at)

    @contextmanager
    def running(self) -> Iterator[ControlPlane]:
        """The control plane, ready, while the block lasts."""
        binaries = toolchain.kube()
        folder, at, keys = self.folder, self._at, self._keys
        with ExitStack() as running:
            running.enter_context(process(folder, "etcd", programs.etcd(binaries, self._data, at)))
            # The loopback address is refused as an endpoint of the service `kubernetes`.
            apiserver = programs.apiserver(
                binaries, keys, at, "--bind-address=127.0.0.1", "--endpoint-reconciler-type=none"
            )
            serving = running.enter_context(process(folder, "kube-apiserver", apiserver))
            wait_healthy(f"{at.server}/readyz", folder / "pki" / "ca.crt", serving, folder)
            manager = programs.controller_manager(binaries, keys, at)
            managing = running.enter_context(process(folder, "kube-controller-manager", manager))
            health = f"https://127.0.0.1:{at.controller_port}/healthz"
            wait_healthy(health, None, managing, folder)
            yield ControlPlane(keys.admin, at.server, binaries, folder)

    def empty(self) -> None:
        """Lose all that etcd held; the control plane must be stopped."""
        shutil.rmtree(self._data)

    @property
    def _data(self) -> Path:
        return self.folder / "etcd"


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with Site(tmp_path_factory.mktemp("control-plane")).running() as plane:
        yield plane


@pytest.fixture(scope="session")
def object_store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ObjectStore]:
    folder = tmp_path_factory.mktemp("object-store")
    serve = {"versitygw": versitygw, "minio": minio}[request.config.getoption(STORE_OPTION)]
    with serve(folder, store.credentials(folder / "credentials.json")) as serving:
        yield serving


@contextmanager
def versitygw(folder: Path, keys: dict[str, store.Credentials]) -> Iterator[ObjectStore]:
    """The demo's store: every account has its own keys and rights."""
    gateway = toolchain.store()
    for name in ("accounts", "data"):
        (folder / name).mkdir()
    (port,) = free_ports(1)
    command = [str(gateway / "versitygw"), "--port", f"127.0.0.1:{port}", "--quiet"]
    command += ["--iam-dir", str(folder / "accounts"), "posix", str(folder / "data")]
    secret = {
        "ROOT_ACCESS_KEY": keys["root"].access_key,
        "ROOT_SECRET_KEY": keys["root"].secret_key,
    }
    with process(folder, "versitygw", command, secret):
        endpoint = f"http://127.0.0.1:{port}"
        store.arrange(gateway, endpoint, keys)
        yield ObjectStore(endpoint, keys)


@contextmanager
def minio(folder: Path, keys: dict[str, store.Credentials]) -> Iterator[ObjectStore]:
    """Another maker's store, to see that the journal's lock holds there too.

    Every account has the root's keys: who may touch what is tested on the demo's store.
    """
    program = toolchain.minio() / "minio"
    port, console = free_ports(2)
    command = [str(program), "server", "--quiet", f"--address=127.0.0.1:{port}"]
    command += [f"--console-address=127.0.0.1:{console}", str(folder / "data")]
    root = keys["root"]
    settings = {
        "MINIO_ROOT_USER": root.access_key,
        "MINIO_ROOT_PASSWORD": root.secret_key,
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
        "MINIO_CI_CD": "on",  # the data may lie on the root file system
    }
    with process(folder, "minio", command, settings):
        endpoint = f"http://127.0.0.1:{port}"
        store.make_buckets(endpoint, root)
        yield ObjectStore(endpoint, dict.fromkeys(keys, root), separate_rights=False)


def free_ports(count: int) -> list[int]:
    """Distinct loopback ports that were free a moment ago."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for held_socket in sockets:
            held_socket.bind(("127.0.0.1", 0))
        return [held_socket.getsockname()[1] for held_socket in sockets]


@contextmanager
def process(
    folder: Path, name: str, command: list[str], env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a program while the block lasts; its output goes to <folder>/<name>.log."""
    with (folder / f"{name}.log").open("wb") as log:
        running = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, env={**os.environ, **(env or {})}
        )
        try:
            yield running
        finally:
            running.terminate()
            try:
                running.wait(timeout=10)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


def wait_healthy(
    url: str,
    authority: Path | None,
    serving: subprocess.Popen[bytes],
    logs: Path,
    seconds: float = 120,
) -> None:
    """Waits until the address answers 200; trusts any certificate where `authority` is None."""
    context = ssl.create_default_context(cafile=authority)
    if authority is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, context=context, timeout=2):
                return
        except (urllib.error.URLError, OSError) as refused:
            if time.monotonic() > deadline or serving.poll() is not None:
                raise ClusterError(f"{url} does not answer ({refused}): see {logs}") from refused
            time.sleep(0.1)
