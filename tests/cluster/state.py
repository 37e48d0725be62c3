"""One cluster's names, addresses and files; the folder tells everything about it."""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster import cache
from cluster.programs import Addresses
from cluster.report import ClusterError

REPOSITORY = Path(__file__).parents[2]
FIRST_NETWORK, NETWORKS = 64, 64
NODE = "node-1"


@dataclass(frozen=True)
class Cluster:
    """A cluster's choices. Its /16 holds pods (/24), services (/18), the link to the host (/30)."""

    folder: Path
    network: int
    runtime: Path

    @property
    def name(self) -> str:
        return f"palimpsest-{_hash(self.folder)}"

    @property
    def link(self) -> str:
        """The network device at the host's end (at most 15 characters)."""
        return f"plm{_hash(self.folder)}"

    @property
    def host_address(self) -> str:
        return f"10.{self.network}.255.1"

    @property
    def node_address(self) -> str:
        return f"10.{self.network}.255.2"

    @property
    def whole_cidr(self) -> str:
        return f"10.{self.network}.0.0/16"

    @property
    def pod_cidr(self) -> str:
        return f"10.{self.network}.0.0/24"

    @property
    def dns_address(self) -> str:
        return f"10.{self.network}.128.10"

    @property
    def store_address(self) -> str:
        return f"10.{self.network}.128.20"

    @property
    def store_endpoint(self) -> str:
        """From the host; inside the cluster it is http://store.store.svc:8080."""
        return f"http://{self.store_address}:8080"

    @property
    def cgroup(self) -> str:
        return f"/{self.name}"

    @property
    def addresses(self) -> Addresses:
        return Addresses(
            address=self.node_address,
            api_port=6443,
            etcd_client_port=2379,
            etcd_peer_port=2380,
            controller_port=10257,
            service_cidr=f"10.{self.network}.128.0/18",
            first_service=f"10.{self.network}.128.1",
        )

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def credentials(self) -> Path:
        return self.folder / "store-credentials.json"

    def save(self) -> None:
        document = {**asdict(self), "folder": str(self.folder), "runtime": str(self.runtime)}
        cache.write_atomic(self.folder / "cluster.json", json.dumps(document, indent=1))


def folder() -> Path:
    """Where this checkout's cluster keeps its state."""
    return REPOSITORY / "build" / "cluster"


def load() -> Cluster | None:
    """The cluster that the folder speaks of, running or not."""
    try:
        found = json.loads((folder() / "cluster.json").read_text())
    except FileNotFoundError:
        return None
    return Cluster(Path(found["folder"]), found["network"], Path(found["runtime"]))


def choose() -> tuple[Cluster, list[int]]:
    """A new cluster with a network and an image store that no other holds.

    The locks of both are file descriptors: whoever keeps them open keeps the choice.
    """
    mine = folder()
    mine.mkdir(parents=True, exist_ok=True)
    start = int(_hash(mine), 16) % NETWORKS
    taken = _host_networks()
    for offset in range(NETWORKS):
        number = FIRST_NETWORK + (start + offset) % NETWORKS
        net = ipaddress.ip_network(f"10.{number}.0.0/16")
        if any(net.overlaps(other) for other in taken):
            continue
        network_lock = try_lock(cache.root() / "locks" / f"network-{number}")
        if network_lock is not None:
            break
    else:
        raise ClusterError(
            "every network from 10.64.0.0/16 to 10.127.0.0/16 is in use on this machine"
        )
    slot = 0
    while (runtime_lock := try_lock(cache.root() / "locks" / f"containerd-{slot}")) is None:
        slot += 1
    runtime = cache.root() / "containerd" / str(slot)
    return Cluster(mine, number, runtime), [network_lock, runtime_lock]


def try_lock(path: Path) -> int | None:
    """An exclusive lock as a file descriptor that children may inherit; None if another has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


@contextmanager
def command_lock() -> Iterator[None]:
    """One `up` or `down` at a time in this checkout."""
    handle = try_lock(folder().parent / "cluster.lock")
    if handle is None:
        raise ClusterError(
            "another `make up` or `make down` of this checkout runs: wait for it to end"
        )
    try:
        yield
    finally:
        os.close(handle)


def _hash(path: Path) -> str:
    return hashlib.sha256(str(path).encode()).hexdigest()[:8]


def _host_networks() -> list[ipaddress.IPv4Network]:
    listed = subprocess.run(
        ["ip", "-json", "-4", "route"], capture_output=True, text=True, check=True
    ).stdout
    destinations = (route["dst"] for route in json.loads(listed) if route["dst"] != "default")
    return [ipaddress.IPv4Network(destination, strict=False) for destination in destinations]
