"""Layers packed from an overlay: contents, removals, and the digest that names them."""

from __future__ import annotations

import hashlib
import os
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
    digest, path = layers.packed(storage, "layer")
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
    with tarfile.open(layers.packed(storage, "layer")[1]) as tar:
        names = tar.getnames()
    assert "opt/.wh.gone" in names
    assert "opt/gone" not in names
