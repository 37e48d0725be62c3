"""Builds the product's images with buildah, and the small ones of the cluster by hand."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cluster import cache, layers, toolchain
from cluster.commands import run
from cluster.report import ClusterError, step

REPOSITORY = Path(__file__).parents[2]
NAMES = ("operator", "stage")
UV_EXTRAS = {
    "operator": ["--extra", "accounting", "--extra", "tracing"],
    "stage": ["--extra", "stage"],
}
LOCAL_BASE = "local"
SUITE = "bookworm"
BASE_PACKAGES = "python3,python3-pip,ca-certificates"
PAUSE = "localhost/palimpsest-pause:1"
COREDNS = "localhost/palimpsest-coredns:1"
GATEWAY = "localhost/palimpsest-versitygw:1"


@dataclass(frozen=True)
class Layout:
    """An image outside any store: its manifest's digest and the files of all its blobs."""

    name: str
    digest: str
    blobs: dict[str, Path]

    @property
    def reference(self) -> str:
        return f"{self.name.rsplit(':', 1)[0]}@{self.digest}"


@dataclass(frozen=True)
class Build:
    """What an image is made from: a source tree, a base image by digest or our own, a commit."""

    tree: Path = REPOSITORY
    base: str = LOCAL_BASE
    architecture: str = ""  # empty: the machine's own
    commit: str = "unknown"
    created: str = "1970-01-01T00:00:00Z"
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def foreign(self) -> bool:
        return self.architecture not in ("", machine_architecture())


def build(image: str, given: Build = Build()) -> Layout:
    """Builds `operator` or `stage` and exports it, uncompressed.

    The same input gives the same digest, wherever and whenever it is built.
    """
    suffix = f"-{given.architecture}" if given.foreign else ""
    name = f"localhost/palimpsest-{image}{suffix}:{cache.digest(str(REPOSITORY))}"
    containerfile = given.tree / "images" / image / "Containerfile"
    with cache.locked("buildah"):
        _buildah("rm", "--all", what="clearing what an interrupted build left")
        base, base_key = _base(given)
        dependencies = _dependencies(image, containerfile, given, base, base_key)
        with step(f"build image {image}{suffix}: code layer"):
            mine = (f"DEPENDENCIES={dependencies}", f"COMMIT={given.commit}")
            told = [word for each in mine for word in ("--build-arg", each)]
            _bud(containerfile, name, given, given.tree, *told)
        with step(f"export image {image}{suffix}"):
            layout = _export(name, base, given)
        _prune()
    return layout


def _dependencies(image: str, containerfile: Path, given: Build, base: str, base_key: str) -> str:
    """The image with the locked dependencies: made anew only when they or the base change."""
    exported = run(
        ["uv", "export", "--frozen", "--no-dev", "--no-emit-project", *UV_EXTRAS[image]],
        what=f"reading the locked dependencies of {image}",
        remedy="Install uv (pip install uv) and see that uv.lock is there.",
        cwd=given.tree,
    )
    locked = "".join(line for line in exported.splitlines(True) if not line.startswith("#"))
    recipe = containerfile.read_text().split("FROM ${DEPENDENCIES}")[0]
    repository = f"localhost/palimpsest-{image}-dependencies"
    if given.base != LOCAL_BASE:
        repository += f"-on-{given.architecture or machine_architecture()}-release"
    name = f"{repository}:{cache.digest(locked, recipe, base_key, 'one layer')}"
    if not _has(name):
        with (
            step(f"build image {image}: dependency layer (a few minutes when new)"),
            tempfile.TemporaryDirectory() as context,
        ):
            for file in ("pyproject.toml", "uv.lock"):
                shutil.copyfile(given.tree / file, Path(context) / file)
            mine = ("--target", "dependencies", "--build-arg", f"BASE={base}")
            _bud(containerfile, name, given, Path(context), *mine)
            _drop_others(name)
    return name


def _drop_others(name: str) -> None:
    """Takes the names from the repository's other images, of some gigabytes each."""
    repository = name.rsplit(":", 1)[0]
    listed = _buildah("images", "--format", "{{.Name}}:{{.Tag}}", what="listing images").split()
    for old in listed:
        if old.startswith(f"{repository}:") and old != name:
            _buildah("rmi", old, what=f"removing {old}")


def _bud(containerfile: Path, name: str, given: Build, context: Path, *options: str) -> None:
    certificates = Path("/etc/ssl/certs/ca-certificates.crt")
    mine: list[str] = []
    if certificates.exists():
        # The build sees the machine's authorities, which a proxy may need.
        mine += ["-v", "/etc/ssl/certs:/etc/ssl/certs:ro"]
        mine += ["--build-arg", f"SSL_CERT_FILE={certificates}"]
    uv_cache = run(["uv", "cache", "dir"], what="finding uv's cache", remedy="Install uv.").strip()
    Path(uv_cache).mkdir(parents=True, exist_ok=True)
    mine += ["-v", f"{uv_cache}:/host-uv-cache", "--build-arg", "UV_CACHE_DIR=/host-uv-cache"]
    if given.foreign:
        mine += ["--platform", f"linux/{given.architecture}"]
    _buildah(
        "bud",
        # One layer: what a later command removes is in none, and no layer of a build with other
        # arguments stands in.
        *("--layers=false", "--isolation", "chroot", "--network", "host", "--format", "oci"),
        *mine,
        *options,
        *("-f", str(containerfile), "-t", name, str(context)),
        what=f"building {name}",
    )


def _base(given: Build) -> tuple[str, str]:
    """The base's name in the storage and its key."""
    if given.base == LOCAL_BASE:
        return local_base()
    return given.base, cache.digest(given.base, given.architecture)


def local_base() -> tuple[str, str]:
    """A Debian with Python where no registry can be reached: (image name, its key)."""
    key = cache.digest(SUITE, BASE_PACKAGES)
    name = f"localhost/palimpsest-base:{key}"
    if not _has(name):
        tarball = cache.artefact("debian", key, _debootstrap) / "root.tar"
        with step("make the base image"):
            script = tarball.parent / "Containerfile"
            script.write_text("FROM scratch\nADD root.tar /\n")
            _buildah(
                *("bud", "--format", "oci", "-f", str(script)),
                *("-t", name, str(tarball.parent)),
                what="making the base image",
            )
    return name, key


def local_base_digest() -> str:
    """The digest that our own base has as an image."""
    with cache.locked("buildah"):
        name, _ = local_base()
        return _export(name, name, Build()).digest


def _debootstrap(folder: Path) -> None:
    with step("debootstrap the base image (a minute when new)"):
        root = folder / "root"
        run(
            ["debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}", SUITE, root],
            what="debootstrap",
            remedy="Check the network, then run again.",
            nice=True,
        )
        for waste in (
            "var/cache/apt",
            "var/lib/apt/lists",
            "usr/share/doc",
            "usr/share/man",
            "dev",
        ):
            shutil.rmtree(root / waste, ignore_errors=True)
        (root / "dev").mkdir()
        tar: list[str | Path] = [
            "tar",
            "-C",
            root,
            "--numeric-owner",
            "-cf",
            folder / "root.tar",
            ".",
        ]
        run(tar, what="packing the base image")
        shutil.rmtree(root)


def _export(name: str, base: str, given: Build) -> Layout:
    storage = cache.root() / "buildah" / "root"
    below = len(layers.chain(storage, base))
    # The base is what it is; its compiled modules know their sources by their times.
    packed = [
        layers.packed(storage, layer, keep_times=depth < below)
        for depth, layer in enumerate(layers.chain(storage, name))
    ]
    inspected = _buildah("inspect", "--type", "image", name, what=f"reading {name}")
    config = json.loads(inspected)["OCIv1"]
    config.pop("history", None)
    config["config"].pop("Labels", None)  # buildah's version
    config["created"] = given.created
    if given.architecture not in ("", config["architecture"]):
        raise ClusterError(f"{base} is of {config['architecture']}: {given.architecture} was asked")
    return _layout(name, config, packed, given.annotations)


def _prune() -> None:
    """Removes what no name leads to: older builds of the code, then their packed layers."""
    _buildah("rmi", "--prune", what="removing unnamed images")
    listed = _buildah("images", "--format", "{{.Name}}:{{.Tag}}", what="listing images").split()
    storage = cache.root() / "buildah" / "root"
    layers.prune(
        {
            layer
            for name in listed
            if not name.startswith("<none>")
            for layer in layers.chain(storage, name)
        }
    )


def _layout(
    name: str,
    config: dict[str, Any],
    packed: list[tuple[str, Path]],
    annotations: Mapping[str, str] = MappingProxyType({}),
) -> Layout:
    """An OCI image of these layers; its config and manifest are written into the cache."""
    folder = cache.root() / "manifests"
    config = {
        "created": "1970-01-01T00:00:00Z",
        **config,
        "rootfs": {"type": "layers", "diff_ids": [digest for digest, _ in packed]},
    }
    oci = "application/vnd.oci.image"
    configured = _put(folder, json.dumps(config, sort_keys=True).encode())
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{oci}.manifest.v1+json",
        "config": {"mediaType": f"{oci}.config.v1+json", **configured},
        "layers": [
            {"mediaType": f"{oci}.layer.v1.tar", "digest": digest, "size": path.stat().st_size}
            for digest, path in packed
        ],
        **({"annotations": dict(annotations)} if annotations else {}),
    }
    whole = _put(folder, json.dumps(manifest, sort_keys=True).encode())
    digests = [str(whole["digest"]), str(configured["digest"])]
    return Layout(name, digests[0], {**{d: _blob(folder, d) for d in digests}, **dict(packed)})


def _blob(folder: Path, digest: str) -> Path:
    return folder / digest.replace(":", "-")


def small_images() -> list[Layout]:
    """Pause, CoreDNS and the S3 gateway: one static program each."""
    tools, store = toolchain.tools(), toolchain.store()
    programs = [
        (PAUSE, tools / "pause", ["/pause"]),
        (COREDNS, tools / "coredns", ["/coredns"]),
        (GATEWAY, store / "versitygw", ["/versitygw"]),
    ]
    return [single_program(name, program, command) for name, program, command in programs]


def single_program(name: str, program: Path, command: list[str]) -> Layout:
    """An image of nothing but one program, user 65532; the same bytes give the same digest."""

    def make(folder: Path) -> None:
        with tarfile.open(folder / "layer.tar", mode="w") as tar, program.open("rb") as content:
            info = tarfile.TarInfo(command[0].lstrip("/"))
            info.size, info.mode = program.stat().st_size, 0o755
            tar.addfile(info, content)

    folder = cache.artefact("programs", cache.digest(name, program.parent.name, *command), make)
    tarball = folder / "layer.tar"
    with tarball.open("rb") as content:
        digest = f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"
    config = {
        "architecture": machine_architecture(),
        "os": "linux",
        "config": {"Entrypoint": command, "User": "65532:65532"},
    }
    return _layout(name, config, [(digest, tarball)])


def _put(folder: Path, content: bytes) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    cache.write_atomic(_blob(folder, digest), content)
    return {"digest": digest, "size": len(content)}


def machine_architecture() -> str:
    """This machine's, as images call it."""
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _has(name: str) -> bool:
    command = _command("inspect", "--type", "image", name)
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _buildah(*arguments: str, what: str) -> str:
    log = cache.root() / "logs" / "buildah.log"
    remedy = "A package that will not download: check the network, then run again."
    return run(_command(*arguments), what=what, remedy=remedy, log=log, nice=True)


def _command(*arguments: str) -> list[str]:
    """buildah in a mount namespace of its own, so that its mounts end with it."""
    storage, running = cache.root() / "buildah" / "root", cache.root() / "buildah" / "run"
    running.mkdir(parents=True, exist_ok=True)
    # Files that a build makes have the same modes under every umask.
    script = 'umask 022 && mount -t tmpfs tmpfs "$0" && exec buildah "$@"'
    options = ["--storage-driver", "overlay", "--root", str(storage), "--runroot", str(running)]
    return ["unshare", "--mount", "sh", "-c", script, str(running), *options, *arguments]
