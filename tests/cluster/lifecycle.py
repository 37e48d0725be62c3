"""Brings the cluster up, takes it down, says how it is."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster import addons, cache, images, packages, state, store, toolchain
from cluster.commands import run
from cluster.report import ClusterError, say, step
from cluster.runtime import Runtime

DISK_COLD, DISK_WARM = 32, 4  # GiB
# The object store, in the cluster's folder: what lies in it and its keys.
STORED = ("store", "store-credentials.json")


def require_root() -> None:
    """Raises ClusterError unless this is Linux and root."""
    remedy = "or set KUBECONFIG to use a cluster of your own"
    if sys.platform != "linux":
        raise ClusterError(
            f"the cluster needs Linux, this is {sys.platform}: use a Linux machine, {remedy}"
        )
    if os.geteuid() != 0:
        raise ClusterError(f"the cluster needs root: run it with sudo, {remedy}")


def require_machine() -> None:
    """Raises ClusterError unless this is Linux and root, with room on the disk."""
    require_root()
    warm = (cache.root() / "containerd").is_dir()
    needed = DISK_WARM if warm else DISK_COLD
    for place in (cache.root(), state.REPOSITORY):
        free = shutil.disk_usage(place).free / 2**30
        if free < needed:
            raise ClusterError(
                f"{place} has {free:.0f} GiB free and the set-up needs {needed}: "
                "make room, or set PALIMPSEST_CACHE to a folder on a larger disk"
            )


def setup() -> None:
    """Everything that needs no running cluster: packages, programs, images."""
    require_machine()
    packages.ensure_debian()
    _programs()
    toolchain.checks()
    toolchain.argo()
    toolchain.krew()
    toolchain.definitions()
    packages.prometheus()
    packages.browser()
    build_images()


def _programs() -> None:
    toolchain.kube()
    toolchain.tools()
    toolchain.store()


def build_images() -> list[images.Layout]:
    return [*images.small_images(), *(images.build(name) for name in images.NAMES)]


def renew() -> state.Cluster:
    """Another cluster around this one's object store: all that etcd held is lost."""
    with TemporaryDirectory(dir=state.folder().parent) as kept:
        down(keep=Path(kept))
        return up(Path(kept))


def up(stored: Path | None = None) -> state.Cluster:
    """A running cluster with DNS, the store and the images of this checkout; a no-op when it is.

    `stored`: a folder with the object store that a new cluster takes up.
    """
    require_machine()
    packages.ensure_debian()
    with ThreadPoolExecutor() as side:
        # Compiling and copying layers use different parts of the machine.
        built = side.submit(build_images)
        _programs()
        cluster = state.load()
        pid = running(cluster)
        fresh = cluster is None or pid is None
        if cluster is None or pid is None:
            cluster, pid = _start(stored)
        layouts = built.result()
    link_tools(cluster)
    runtime = Runtime(pid, cluster.runtime)
    _await("containerd", runtime.answers, cluster)
    with step("bring the images into the cluster"):
        references = _import(runtime, layouts)
        if fresh:  # later, pods may still run the images of an hour ago
            runtime.forget_all_but(layouts)
    cache.write_atomic(cluster.folder / "images.json", json.dumps(references, indent=1))
    _await("the API server", lambda: "ok" in _kubectl(cluster, "get", "--raw=/readyz"), cluster)
    keys = store.credentials(cluster.credentials)
    with step("start DNS and the object store"):
        _apply(cluster, keys)
        _await("the node", lambda: "True" in _node_ready(cluster), cluster)
        for namespace, name in (("kube-system", "coredns"), ("store", "store")):
            _await(name, partial(_available, cluster, namespace, name), cluster)
        store.arrange(toolchain.store(), cluster.store_endpoint, keys)
    say(f"  up: export KUBECONFIG={cluster.kubeconfig}")
    return cluster


def _import(runtime: Runtime, layouts: list[images.Layout]) -> dict[str, str]:
    references = {}
    for layout in layouts:
        runtime.add(layout)
        name = layout.name.rsplit(":", 1)[0].rsplit("palimpsest-", 1)[1]
        if name in images.NAMES:
            references[name] = layout.reference
    return references


def _start(stored: Path | None) -> tuple[state.Cluster, int]:
    down()
    cluster, locks = state.choose()
    if stored is not None:
        _move(stored, cluster.folder)
    with step(
        f"start Kubernetes {toolchain.KUBERNETES} in its own namespaces ({cluster.whole_cidr})"
    ):
        for name in ("logs", "store/accounts", "store/data", "cni", "volume-plugins"):
            (cluster.folder / name).mkdir(parents=True, exist_ok=True)
        for place in ("store", "store/accounts", "store/data"):
            os.chown(cluster.folder / place, 65532, 65532)
        cluster.runtime.mkdir(parents=True, exist_ok=True)
        cluster.save()
        _cgroups(cluster, lambda path: path.mkdir(exist_ok=True))
        lock = state.try_lock(cluster.folder / "lock")
        if lock is None:
            raise ClusterError(
                "the cluster of this checkout is just starting: run again in a minute"
            )
        subprocess.run(["modprobe", "br_netfilter"], capture_output=True, check=False)
        with (cluster.logs / "supervisor.log").open("ab") as log:
            namespaces = ["unshare", "--fork", "--pid", "--mount", "--net", "--uts", "--ipc"]
            subprocess.Popen(
                [*namespaces, sys.executable, "-m", "cluster.supervisor"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(lock, *locks),
                cwd="/",
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
            )
        for handle in (lock, *locks):
            os.close(handle)
        _await("the supervisor", lambda: running(cluster) is not None, cluster, seconds=20)
        pid = running(cluster)
        assert pid is not None
        _link(cluster, pid)
        _await("the keys", cluster.kubeconfig.exists, cluster, seconds=30)
    return cluster, pid


def _link(cluster: state.Cluster, pid: int) -> None:
    """The host's end of the link; it goes when the cluster's namespace goes."""
    what = "linking the cluster to the host"
    peer = ["type", "veth", "peer", "name", "uplink", "netns", str(pid)]
    run(["ip", "link", "add", cluster.link, *peer], what=what)
    run(["ip", "address", "add", f"{cluster.host_address}/30", "dev", cluster.link], what=what)
    run(["ip", "link", "set", cluster.link, "up"], what=what)
    run(["ip", "route", "add", cluster.whole_cidr, "via", cluster.node_address], what=what)


def running(cluster: state.Cluster | None) -> int | None:
    """The host's number of the cluster's process 1, if it lives."""
    if cluster is None:
        return None
    try:
        pid = int(json.loads((cluster.folder / "supervisor.json").read_text())["pid"])
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return pid if b"cluster.supervisor" in command else None


def _move(here: Path, there: Path) -> None:
    for name in STORED:
        (here / name).rename(there / name)


def down(keep: Path | None = None) -> None:
    """Ends every process, mount and device of the cluster and removes its state.

    `keep`: a folder that the object store is moved to.
    """
    folder = state.folder()
    cluster = state.load()
    if cluster is not None:
        with step("take the cluster down"):
            _end(cluster)
            _cgroups(cluster, _remove_cgroup)
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    if any(Path(mount).is_relative_to(folder) for mount in mounted):
        raise ClusterError(f"something is mounted under {folder}: unmount it, then run again")
    if keep is not None:
        _move(folder, keep)
    shutil.rmtree(folder, ignore_errors=True)


def _end(cluster: state.Cluster) -> None:
    """Stops process 1 and waits until its lock is free, which no member of its tree can outlive."""
    deadline = time.monotonic() + 30
    while (lock := state.try_lock(cluster.folder / "lock")) is None:
        pid = running(cluster)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise ClusterError(
                "the cluster's process does not end: look at it with ps, then run again"
            )
        time.sleep(0.1)
    os.close(lock)


def _cgroups(cluster: state.Cluster, action: Callable[[Path], object]) -> None:
    """Applies the action to the cluster's cgroup in every hierarchy (the only one in version 2)."""
    top = Path("/sys/fs/cgroup")
    hierarchies = [top] if (top / "cgroup.controllers").exists() else sorted(top.iterdir())
    for hierarchy in hierarchies:
        if not hierarchy.is_symlink() and (hierarchy / "cgroup.procs").exists():
            action(hierarchy / cluster.cgroup.strip("/"))


def _remove_cgroup(path: Path) -> None:
    if not path.is_dir():
        return
    folders = [Path(folder) for folder, _, _ in os.walk(path, topdown=False)]
    for folder in folders:
        for _ in range(50):  # its killed processes leave a moment later
            try:
                folder.rmdir()
                break
            except OSError:
                time.sleep(0.1)


def link_tools(cluster: state.Cluster) -> None:
    """build/cluster/bin with kubectl and helm."""
    binaries = cluster.folder / "bin"
    binaries.mkdir(exist_ok=True)
    for name, place in (("kubectl", toolchain.kube()), ("helm", toolchain.tools())):
        link = binaries / name
        link.unlink(missing_ok=True)
        link.symlink_to(place / name)


def status() -> str:
    cluster = state.load()
    pid = running(cluster)
    if cluster is None or pid is None:
        return "down: `make up` starts it"
    return "\n".join(
        [
            f"up: process {pid}, network {cluster.whole_cidr}, state {cluster.folder}",
            f"kubeconfig {cluster.kubeconfig}",
            f"store {cluster.store_endpoint} (in the cluster http://store.store.svc:8080)",
            _kubectl(cluster, "get", "nodes,pods", "-A", "--no-headers").rstrip(),
        ]
    )


def _kubectl(cluster: state.Cluster, *arguments: str) -> str:
    """kubectl's answer, empty when it fails."""
    command = [str(toolchain.kube() / "kubectl"), f"--kubeconfig={cluster.kubeconfig}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _apply(cluster: state.Cluster, keys: dict[str, store.Credentials]) -> None:
    kubectl = [str(toolchain.kube() / "kubectl"), f"--kubeconfig={cluster.kubeconfig}"]
    document = json.dumps(addons.manifests(cluster, keys["root"]))
    command = [*kubectl, "apply", "--server-side", "--force-conflicts", "-f", "-"]
    run(command, what="applying DNS and the store", stdin=document)


def _node_ready(cluster: state.Cluster) -> str:
    path = '{.status.conditions[?(@.type=="Ready")].status}'
    return _kubectl(cluster, "get", "node", state.NODE, "-o", f"jsonpath={path}")


def _available(cluster: state.Cluster, namespace: str, name: str) -> bool:
    path = "{.status.availableReplicas}"
    got = _kubectl(cluster, "-n", namespace, "get", "deployment", name, "-o", f"jsonpath={path}")
    return got == "1"


def _await(
    what: str, ready: Callable[[], bool], cluster: state.Cluster, seconds: float = 300
) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise ClusterError(f"{what} is not ready after {seconds:.0f} s: see {cluster.logs}")
        time.sleep(0.2)
