"""Images as archives: what names them, and which bases and platforms are refused."""

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from cluster.images import Layout, machine_architecture
from cluster.report import ClusterError
from release import oci
from release.images import check_base, check_platforms

OWN = machine_architecture()
OTHER = {"amd64": "arm64", "arm64": "amd64"}[OWN]
MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}[OTHER]
PINNED = "docker.io/library/python@sha256:" + "a" * 64


def layout(folder: Path, architecture: str) -> Layout:
    """An image of one layer."""
    folder.mkdir()

    def put(content: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        (folder / digest).write_bytes(content)
        return digest

    layer = put(b"a layer")
    config = put(json.dumps({"architecture": architecture}).encode())
    manifest = put(
        json.dumps({"config": {"digest": config}, "layers": [{"digest": layer}]}).encode()
    )
    return Layout("image", manifest, {each.name: each for each in folder.iterdir()})


def read(path: Path, digest: str = "") -> dict[str, Any]:
    """The index of an archive, or one of its blobs, whose digest is held against its name."""
    name = f"blobs/{digest.replace(':', '/')}" if digest else "index.json"
    with tarfile.open(path) as tar:
        content = tar.extractfile(name)
        assert content
        text = content.read()
    assert digest in ("", f"sha256:{hashlib.sha256(text).hexdigest()}")
    found: dict[str, Any] = json.loads(text)
    return found


def test_one_platforms_image_is_named_by_its_manifest(tmp_path: Path) -> None:
    one = layout(tmp_path / "one", "amd64")
    path = tmp_path / "image.tar"
    assert oci.archive(path, {"amd64": one}, "1.0") == one.digest
    (entry,) = read(path)["manifests"]
    assert entry["digest"] == one.digest
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "1.0"}
    assert entry["size"] == one.blobs[one.digest].stat().st_size
    with tarfile.open(path) as tar:
        names = tar.getnames()
    blobs = {name.removeprefix("blobs/").replace("/", ":") for name in names if "blobs" in name}
    assert blobs == set(one.blobs)
    assert oci.configuration(one) == {"architecture": "amd64"}


def test_several_platforms_images_are_named_by_their_index(tmp_path: Path) -> None:
    both = {name: layout(tmp_path / name, name) for name in ("arm64", "amd64")}
    digest = oci.archive(tmp_path / "image.tar", both, "1.0")
    (entry,) = read(tmp_path / "image.tar")["manifests"]
    assert entry["digest"] == digest
    index = read(tmp_path / "image.tar", digest)
    assert [(each["platform"]["architecture"], each["digest"]) for each in index["manifests"]] == [
        (name, both[name].digest) for name in ("amd64", "arm64")
    ]
    turned = dict(reversed(both.items()))
    assert oci.archive(tmp_path / "again.tar", turned, "1.0") == digest
    assert (tmp_path / "again.tar").read_bytes() == (tmp_path / "image.tar").read_bytes()


@pytest.mark.parametrize("base", ["local", PINNED, "registry.example:5000/python@" + PINNED[-71:]])
def test_a_base_by_digest_or_ones_own_is_taken(base: str) -> None:
    check_base(base)


@pytest.mark.parametrize(
    "base",
    ["", "docker.io/library/python:3.11-slim-bookworm", PINNED[:-1], f"{PINNED}0", "sha256:" + "a"],
)
def test_a_base_that_moves_is_refused_with_what_pins_it(base: str) -> None:
    with pytest.raises(ClusterError, match=r"BASE.*: give BASE=.*skopeo inspect.*BASE=local"):
        check_base(base)


def test_ones_own_platform_is_always_taken(tmp_path: Path) -> None:
    check_platforms([f"linux/{OWN}"], "local", tmp_path)


def test_another_platform_needs_what_runs_its_programs(tmp_path: Path) -> None:
    wanted = [f"linux/{OWN}", f"linux/{OTHER}"]
    with pytest.raises(ClusterError, match=f"no {OTHER} programs.*qemu-user-static"):
        check_platforms(wanted, PINNED, tmp_path)
    (tmp_path / f"qemu-{MACHINE}").touch()
    check_platforms(wanted, PINNED, tmp_path)
    with pytest.raises(ClusterError, match="own architecture"):
        check_platforms(wanted, "local", tmp_path)


def test_an_unknown_platform_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="windows/amd64 is none of"):
        check_platforms(["windows/amd64"], PINNED, tmp_path)
