"""Process 1 of the cluster's own namespaces.

It makes the node's mounts and network, starts the programs, starts again what dies and reaps
orphans. Its end is the end of every process, mount, device and chain of the cluster: the kernel
takes the namespaces down.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from cluster import cache, node, programs, state, toolchain

HOST_LINK_SECONDS = 60.0


@dataclass(frozen=True)
class Program:
    name: str
    command: list[str]


def main() -> None:
    """Runs until SIGTERM; expects to be process 1 of new pid, mount, network and uts namespaces."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # /proc is still the host's: it tells the number by which `down` knows this process.
    host_pid = int(os.readlink("/proc/self"))
    cluster = state.load()
    if cluster is None:
        sys.exit("no cluster.json")
    cache.write_atomic(cluster.folder / "supervisor.json", json.dumps({"pid": host_pid}))
    _mounts(cluster)
    _network(cluster)
    _keep(_programs(cluster), cluster.logs)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def _mounts(cluster: state.Cluster) -> None:
    socket.sethostname(state.NODE)
    _call("mount", "-t", "proc", "proc", "/proc")
    # Empty mount points that stay: removing one would unmount it in another checkout's namespace.
    for point in (node.KUBELET_ROOT, node.CNI_RESULTS):
        Path(point).mkdir(exist_ok=True)
    for target in ("/run", "/var/log", node.CNI_RESULTS):
        _call("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", target)
    hosts = cluster.folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{cluster.node_address} {state.NODE}\n")
    _call("mount", "--bind", str(hosts), "/etc/hosts")
    kubelet = cluster.folder / "kubelet"
    kubelet.mkdir(exist_ok=True)
    _call("mount", "--bind", str(kubelet), node.KUBELET_ROOT)
    # Volumes with mount propagation ask that it be shared.
    _call("mount", "--make-rshared", node.KUBELET_ROOT)


def _network(cluster: state.Cluster) -> None:
    _call("ip", "link", "set", "lo", "up")
    deadline = time.monotonic() + HOST_LINK_SECONDS
    while not Path("/proc/sys/net/ipv4/conf/uplink").exists():
        if time.monotonic() > deadline:
            sys.exit("the host's end of the link did not come")
        time.sleep(0.05)
    _call("ip", "address", "add", f"{cluster.node_address}/30", "dev", "uplink")
    _call("ip", "link", "set", "uplink", "up")
    # No way out: the cluster is closed, and says so at once.
    _call("ip", "route", "add", "unreachable", "default")
    # A packet needs a route before kube-proxy's rules turn it to a pod: the API server's own calls
    # to webhooks begin here.
    _call("ip", "route", "add", cluster.addresses.service_cidr, "dev", "uplink")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    bridged = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if bridged.exists():
        bridged.write_text("1")


def _programs(cluster: state.Cluster) -> list[Program]:
    binaries = toolchain.kube()
    at = cluster.addresses
    keys = programs.make_keys(cluster.folder / "pki", at)
    authority = keys.authority
    certificate = authority.identity.certificate
    serving = authority.sign("kubelet-serving", names=(state.NODE, cluster.node_address))
    client = authority.sign(f"system:node:{state.NODE}", ("system:nodes",))
    kubelet_config = authority.kubeconfig(
        cluster.folder / "pki" / "kubelet.conf", at.server, client
    )
    proxy = authority.sign("system:kube-proxy")
    proxy_config = authority.kubeconfig(cluster.folder / "pki" / "proxy.conf", at.server, proxy)
    files = {
        "containerd.toml": node.containerd(cluster),
        "kubelet.json": node.kubelet(cluster, certificate, serving),
        "cni/pods.conflist": node.cni(cluster),
        "resolv.conf": "",
    }
    for name, content in files.items():
        cache.write_atomic(cluster.folder / name, content)
    # Written last: `up` takes it as the sign that the keys are there.
    cache.write_atomic(cluster.kubeconfig, keys.admin.read_bytes(), 0o600)
    return [
        Program("containerd", ["containerd", "--config", f"{cluster.folder}/containerd.toml"]),
        Program("etcd", programs.etcd(binaries, cluster.folder / "etcd", at)),
        Program("kube-apiserver", programs.apiserver(binaries, keys, at)),
        Program("kube-controller-manager", programs.controller_manager(binaries, keys, at)),
        Program("kube-scheduler", programs.scheduler(binaries, keys)),
        Program("kubelet", node.kubelet_command(binaries, cluster, kubelet_config)),
        Program("kube-proxy", node.proxy_command(binaries, cluster, proxy_config)),
    ]


def _keep(wanted: list[Program], logs: Path) -> None:
    """Starts every program and, a second after its death, starts it again."""
    running = {_start(program, logs): program for program in wanted}
    while True:
        pid, status = os.wait()
        died = running.pop(pid, None)
        if died is None:
            continue  # an orphan of the node's
        print(f"{died.name} ended with status {status}", flush=True)
        time.sleep(1)
        running[_start(died, logs)] = died


def _start(program: Program, logs: Path) -> int:
    with (logs / f"{program.name}.log").open("ab") as log:
        return subprocess.Popen(program.command, stdout=log, stderr=log, start_new_session=True).pid


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")


if __name__ == "__main__":
    main()
