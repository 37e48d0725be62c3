"""Packages that others made: Debian's programs and Python wheels."""

from __future__ import annotations

import platform
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
    with cache.locked("apt"), step(f"install {', '.join(wanted)}"):
        _apt("update")
        _apt("install", "-y", "--no-install-recommends", *wanted)


def prometheus() -> Path:
    """The folder with prometheus and promtool: the machine's own, else Debian's package unpacked.

    Installed it would start a service. Raises ClusterError where there is no apt-get.
    """
    own = shutil.which("promtool")
    if own and shutil.which("prometheus"):
        return Path(own).parent
    if shutil.which("apt-get") is None:
        raise ClusterError("prometheus and promtool are missing and there is no apt-get: install")

    def fetch(folder: Path) -> None:
        with step("fetch Debian's prometheus"):
            with cache.locked("apt"):
                try:
                    _apt("download", "prometheus", cwd=folder)
                except ClusterError:
                    # The lists are old or not there; only root may renew them.
                    _apt("update")
                    _apt("download", "prometheus", cwd=folder)
            (package,) = folder.glob("prometheus_*.deb")
            run(["dpkg", "-x", package, folder], what="unpacking prometheus")
            package.unlink()

    release = platform.freedesktop_os_release()
    key = cache.digest(release["ID"], release.get("VERSION_ID", ""), platform.machine())
    return cache.artefact("prometheus", key, fetch) / "usr" / "bin"


def browser() -> Path:
    """A Chromium without a window: the machine's own, else Debian's is installed.

    Raises ClusterError where there is no apt-get.
    """
    known = ("chromium-headless-shell", "chromium", "google-chrome")
    for name in known:
        if own := shutil.which(name):
            return Path(own)
    if shutil.which("apt-get") is None:
        raise ClusterError("chromium is missing and there is no apt-get: install it")
    with cache.locked("apt"):
        if not shutil.which(known[0]):
            with step(f"install {known[0]}"):
                _apt("update")
                _apt("install", "-y", "--no-install-recommends", known[0], "fonts-dejavu-core")
    return Path(str(shutil.which(known[0])))


def _apt(*arguments: str, cwd: Path | None = None) -> None:
    run(
        ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-qq", *arguments],
        what=f"apt-get {arguments[0]}",
        remedy="Check the network and /etc/apt/sources.list, then run again.",
        cwd=cwd,
        env={"DEBIAN_FRONTEND": "noninteractive"},
    )


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
