"""Layers packed from an overlay: contents, removals, and the digest that names them."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from cluster import layers


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path / "cache"))
    diff = tmp_path / "storage" / "overlay" / "layer" / "diff"
    (diff / "opt" / "empty").mkdir(parents=True)
    (diff / "opt" / "file").write_text("content")
    (diff / "opt" / "link").symlink_to("file")
    (diff / "opt" / "folder-link").symlink_to("empty")
    return tmp_path / "storage"


def test_a_layer_holds_the_tree_and_its_digest_is_of_its_bytes(storage: Path) -> None:
    digest, path = layers.packed(storage, "layer", keep_times=True)
    assert digest == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    with tarfile.open(path) as tar:
        assert sorted(tar.getnames()) == [
            "opt",
            "opt/empty",
            "opt/file",
            "opt/folder-link",
            "opt/link",
        ]
        assert tar.getmember("opt/folder-link").issym()


@pytest.mark.skipif(os.geteuid() != 0, reason="device nodes need root")
def test_a_removed_file_becomes_a_whiteout(storage: Path) -> None:
    os.mknod(storage / "overlay" / "layer" / "diff" / "opt" / "gone", 0o020000, os.makedev(0, 0))
    with tarfile.open(layers.packed(storage, "layer", keep_times=True)[1]) as tar:
        names = tar.getnames()
    assert "opt/.wh.gone" in names
    assert "opt/gone" not in names


def test_the_same_files_make_the_same_layer_whenever_they_were_written(storage: Path) -> None:
    overlay = storage / "overlay"
    shutil.copytree(overlay / "layer", overlay / "later", symlinks=True)
    for path in (overlay / "later" / "diff").rglob("*"):
        os.utime(path, (2_000_000_000, 2_000_000_000), follow_symlinks=False)
    first, _ = layers.packed(storage, "layer", keep_times=False)
    later, path = layers.packed(storage, "later", keep_times=False)
    assert first == later
    with tarfile.open(path) as tar:
        assert {member.mtime for member in tar} == {0}


def test_the_times_of_a_base_are_kept(storage: Path) -> None:
    # Debian's compiled modules count only beside a source of the time that they name.
    source = storage / "overlay" / "layer" / "diff" / "opt" / "file"
    os.utime(source, (1_234_567_890, 1_234_567_890))
    with tarfile.open(layers.packed(storage, "layer", keep_times=True)[1]) as tar:
        assert tar.getmember("opt/file").mtime == 1_234_567_890
