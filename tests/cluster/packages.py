"""Packages that others made: Debian's programs and Python wheels."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster import cache
from cluster.commands import run
from cluster.report import ClusterError, step

# Debian package -> a program of it that the cluster runs.
DEBIAN = {
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "iproute2": "ip",
    "openssl": "openssl",
    "util-linux": "unshare",
    "kmod": "modprobe",
}


def missing_debian() -> list[str]:
    return [name for name, program in DEBIAN.items() if shutil.which(program) is None]


def ensure_debian() -> None:
    """Installs what is missing of DEBIAN.

    Raises ClusterError where there is no apt-get, or a package will not download or install.
    """
    wanted = missing_debian()
    if not wanted:
        return
    if shutil.which("apt-get") is None:
        raise ClusterError(
            f"the programs of {', '.join(wanted)} are missing and there is no apt-get: "
            "install them, or set KUBECONFIG to use a cluster of your own"
        )
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-qq"]
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    remedy = "Check the network and /etc/apt/sources.list, then run again."
    with cache.locked("apt"), step(f"install {', '.join(wanted)}"):
        run([*apt, "update"], what="apt-get update", remedy=remedy, env=quiet)
        install = [*apt, "install", "-y", "--no-install-recommends", *wanted]
        run(install, what="apt-get install", remedy=remedy, env=quiet)


def install_into(folder: Path, requirements: Sequence[str]) -> None:
    """Unpacks wheels, without what they depend on, into a folder."""
    uv = shutil.which("uv")
    installer = (
        [uv, "pip", "install", "--quiet", "--python", sys.executable]
        if uv
        else [sys.executable, "-m", "pip", "install", "--quiet"]
    )
    run(
        [*installer, "--no-deps", "--target", folder, *requirements],
        what=f"downloading {', '.join(requirements)}",
        remedy="Check the network, then run again.",
    )
