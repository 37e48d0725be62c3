"""The product's images as OCI archives, each of all platforms, on a base named by digest."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster import images
from cluster.report import ClusterError, step

from release import oci
from release.source import Source

BY_DIGEST = re.compile(r"[a-z0-9][\w.:/-]*@sha256:[0-9a-f]{64}")
PLATFORM = re.compile(r"linux/(amd64|arm64)")
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_HANDLERS = Path("/proc/sys/fs/binfmt_misc")


@dataclass(frozen=True)
class Image:
    """One image: its archive, its digest, and what lies in it for each architecture."""

    name: str
    archive: Path
    digest: str
    layouts: Mapping[str, images.Layout]


def check_base(base: str) -> None:
    """Refuse a base that can move: ClusterError says how to pin it."""
    if base == images.LOCAL_BASE or BY_DIGEST.fullmatch(base):
        return
    wrong = f"BASE={base} is not by digest and can be another tomorrow" if base else "no BASE"
    raise ClusterError(
        f"{wrong}: give "
        "BASE=docker.io/library/python@sha256:..., as printed by `skopeo inspect --format "
        "'{{.Digest}}' docker://docker.io/library/python:3.11-slim-bookworm`, or BASE=local for a "
        "Debian of this machine's own making where no registry can be reached"
    )


def check_platforms(platforms: Sequence[str], base: str, handlers: Path = _HANDLERS) -> None:
    """Refuse a platform whose programs this machine cannot run: a build runs some."""
    own = images.machine_architecture()
    for platform in platforms:
        matched = PLATFORM.fullmatch(platform)
        if not matched:
            raise ClusterError(f"PLATFORMS: {platform} is none of linux/amd64, linux/arm64")
        architecture = matched[1]
        if architecture == own:
            continue
        if base == images.LOCAL_BASE:
            raise ClusterError(
                f"PLATFORMS: {platform} cannot be built with BASE=local, which is of this "
                f"machine's own architecture: leave it out, or give a base by digest"
            )
        if not (handlers / f"qemu-{_MACHINES[architecture]}").exists():
            raise ClusterError(
                f"PLATFORMS: this machine runs no {architecture} programs: install "
                f"qemu-user-static and binfmt-support, or leave {platform} out"
            )


def check_machine() -> None:
    """Refuse a machine on which no image can be built."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise ClusterError(
            "images are built on Linux, as root: use sudo, or leave them out: PARTS=chart,plugin"
        )
    for program in ("buildah", "unshare"):
        if shutil.which(program) is None:
            raise ClusterError(f"no program {program}: `make setup` installs it")


def base_digest(base: str) -> str:
    """What pins the base."""
    if base == images.LOCAL_BASE:
        return images.local_base_digest()
    return base.rpartition("@")[2]


def build(source: Source, folder: Path, name: str, base: str, platforms: Sequence[str]) -> Image:
    """Build an image for all platforms and write its archive."""
    title = f"palimpsest-{name}"
    annotations = {
        "org.opencontainers.image.base.digest": base_digest(base),
        "org.opencontainers.image.base.name": base,
        "org.opencontainers.image.created": source.created,
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.revision": source.commit,
        "org.opencontainers.image.title": title,
        "org.opencontainers.image.version": source.version,
    }
    layouts = {}
    for platform in platforms:
        architecture = platform.removeprefix("linux/")
        layouts[architecture] = images.build(
            name,
            images.Build(
                source.tree, base, architecture, source.commit, source.created, annotations
            ),
        )
    path = folder / f"{title}-{source.version}.oci.tar"
    with step(f"write {path.name}"):
        reference = oci.archive(path, layouts, source.version)
    return Image(title, path, reference, layouts)
