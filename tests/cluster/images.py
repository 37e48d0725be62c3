"""Builds the product's images with buildah, and the small ones of the cluster by hand."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import cache, layers, toolchain
from cluster.commands import run
from cluster.report import step

REPOSITORY = Path(__file__).parents[2]
NAMES = ("operator", "stage")
UV_EXTRAS = {
    "operator": ["--extra", "accounting", "--extra", "tracing"],
    "stage": ["--extra", "stage"],
}
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


def build(image: str) -> Layout:
    """Builds `operator` or `stage` and exports it, uncompressed, for the cluster to import."""
    name = f"localhost/palimpsest-{image}:{cache.digest(str(REPOSITORY))}"
    containerfile = REPOSITORY / "images" / image / "Containerfile"
    with cache.locked("buildah"):
        _buildah("rm", "--all", what="clearing what an interrupted build left")
        dependencies = _dependencies(image, containerfile)
        with step(f"build image {image}: code layer"):
            _bud(containerfile, name, "--build-arg", f"DEPENDENCIES={dependencies}")
        with step(f"export image {image}"):
            layout = _export(name)
        _prune()
    return layout


def _dependencies(image: str, containerfile: Path) -> str:
    """The image with the locked dependencies: made anew only when they or the base change."""
    base, base_key = _base()
    exported = run(
        ["uv", "export", "--frozen", "--no-dev", "--no-emit-project", *UV_EXTRAS[image]],
        what=f"reading the locked dependencies of {image}",
        remedy="Install uv (pip install uv) and see that uv.lock is there.",
        cwd=REPOSITORY,
    )
    locked = "".join(line for line in exported.splitlines(True) if not line.startswith("#"))
    recipe = containerfile.read_text().split("FROM ${DEPENDENCIES}")[0]
    name = f"localhost/palimpsest-{image}-dependencies:{cache.digest(locked, recipe, base_key)}"
    if not _has(name):
        with step(f"build image {image}: dependency layer (a few minutes when new)"):
            _bud(containerfile, name, "--target", "dependencies", "--build-arg", f"BASE={base}")
            _drop_others(name)
    return name


def _drop_others(name: str) -> None:
    """Takes the names from the repository's other images, of some gigabytes each."""
    repository = name.rsplit(":", 1)[0]
    listed = _buildah("images", "--format", "{{.Name}}:{{.Tag}}", what="listing images").split()
    for old in listed:
        if old.startswith(f"{repository}:") and old != name:
            _buildah("rmi", old, what=f"removing {old}")


def _bud(containerfile: Path, name: str, *options: str) -> None:
    certificates = Path("/etc/ssl/certs/ca-certificates.crt")
    mine: list[str] = []
    if certificates.exists():
        # The build sees the machine's authorities, which a proxy may need.
        mine += ["-v", "/etc/ssl/certs:/etc/ssl/certs:ro"]
        mine += ["--build-arg", f"SSL_CERT_FILE={certificates}"]
    uv_cache = run(["uv", "cache", "dir"], what="finding uv's cache", remedy="Install uv.").strip()
    Path(uv_cache).mkdir(parents=True, exist_ok=True)
    mine += ["-v", f"{uv_cache}:/host-uv-cache", "--build-arg", "UV_CACHE_DIR=/host-uv-cache"]
    _buildah(
        "bud",
        *("--isolation", "chroot", "--network", "host", "--format", "oci", "--layers"),
        *mine,
        *options,
        *("-f", str(containerfile), "-t", name, str(REPOSITORY)),
        what=f"building {name}",
    )


def _base() -> tuple[str, str]:
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


def _export(name: str) -> Layout:
    storage = cache.root() / "buildah" / "root"
    ids = layers.chain(storage, name)
    packed = [layers.packed(storage, layer) for layer in ids]
    inspected = _buildah("inspect", "--type", "image", name, what=f"reading {name}")
    config = json.loads(inspected)["OCIv1"]
    config.pop("history", None)
    return _layout(name, config, packed)


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


def _layout(name: str, config: dict[str, Any], packed: list[tuple[str, Path]]) -> Layout:
    """An OCI image of these layers; its config and manifest are written into the cache."""
    folder = cache.root() / "manifests"
    config = {
        **config,
        "created": "1970-01-01T00:00:00Z",
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
    }
    whole = _put(folder, json.dumps(manifest, sort_keys=True).encode())
    digests = [str(whole["digest"]), str(configured["digest"])]
    return Layout(name, digests[0], {**{d: _blob(folder, d) for d in digests}, **dict(packed)})


def labelled(layout: Layout, label: str) -> Layout:
    """The same layers as another image: with a label in its config, and so another digest."""
    manifest = json.loads(layout.blobs[layout.digest].read_text())
    config = json.loads(layout.blobs[manifest["config"]["digest"]].read_text())
    config.setdefault("config", {}).setdefault("Labels", {})["label"] = label
    packed = [(each["digest"], layout.blobs[each["digest"]]) for each in manifest["layers"]]
    return _layout(f"{layout.name.rsplit(':', 1)[0]}:{label}", config, packed)


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
        "architecture": _architecture(),
        "os": "linux",
        "config": {"Entrypoint": command, "User": "65532:65532"},
    }
    return _layout(name, config, [(digest, tarball)])


def _put(folder: Path, content: bytes) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    cache.write_atomic(_blob(folder, digest), content)
    return {"digest": digest, "size": len(content)}


def _architecture() -> str:
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
    script = 'mount -t tmpfs tmpfs "$0" && exec buildah "$@"'
    options = ["--storage-driver", "overlay", "--root", str(storage), "--runroot", str(running)]
    return ["unshare", "--mount", "sh", "-c", script, str(running), *options, *arguments]
