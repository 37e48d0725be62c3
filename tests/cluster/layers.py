"""Reads finished images out of buildah's overlay storage as uncompressed layers.

`buildah push` compresses every layer anew each time, which takes minutes for the stages' image;
here a layer is packed once and only new ones are packed again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import tarfile
import time
from pathlib import Path
from typing import Any, BinaryIO

from cluster import cache

OPAQUE = "trusted.overlay.opaque"


def chain(storage: Path, name: str) -> list[str]:
    """The layers' ids in the storage, the lowest first."""
    listed = json.loads((storage / "overlay-images" / "images.json").read_text())
    parents = {
        layer["id"]: layer.get("parent")
        for layer in json.loads((storage / "overlay-layers" / "layers.json").read_text())
    }
    named = [image for image in listed if name in (image.get("names") or ())]
    # What is there under another name is not pulled again under its digest.
    same = [image for image in listed if image.get("digest") == name.rpartition("@")[2]]
    layer = (named or same)[0]["layer"]
    found = []
    while layer:
        found.append(layer)
        layer = parents[layer]
    return found[::-1]


def packed(storage: Path, layer: str, *, keep_times: bool) -> tuple[str, Path]:
    """The digest and the tar file of one layer, packed at most once.

    Without `keep_times` files are of the year 1970: the same files make the same layer whenever
    they were written.
    """

    def pack(folder: Path) -> None:
        with (folder / "layer.tar").open("wb") as file:
            writer = _Hashing(file)
            with tarfile.open(fileobj=writer, mode="w|", bufsize=1 << 20) as tar:
                _add_tree(tar, storage / "overlay" / layer / "diff", keep_times)
        (folder / "digest").write_text(f"sha256:{writer.state.hexdigest()}")

    folder = cache.artefact("layers", layer, pack)
    return (folder / "digest").read_text(), folder / "layer.tar"


def prune(keep: set[str]) -> None:
    """Removes packed layers that are in no image and not in use by another checkout just now."""
    recent = time.time() - 3600
    for folder in (cache.root() / "layers").iterdir():
        if folder.name in keep or folder.name.startswith("."):
            continue
        if folder.stat().st_mtime < recent:
            shutil.rmtree(folder)


def _add_tree(tar: tarfile.TarFile, root: Path, keep_times: bool) -> None:
    for folder, folders, files in os.walk(root):
        folders.sort()
        if folder != str(root):
            _add(tar, root, Path(folder), keep_times)
        if _is_opaque(folder):
            _mark(tar, Path(folder).relative_to(root) / ".wh..wh..opq")
        for name in sorted(files + [f for f in folders if (Path(folder) / f).is_symlink()]):
            path = Path(folder) / name
            status = path.lstat()
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                _mark(tar, path.relative_to(root).with_name(f".wh.{name}"))
            else:
                _add(tar, root, path, keep_times)


def _add(tar: tarfile.TarFile, root: Path, path: Path, keep_times: bool) -> None:
    info = tar.gettarinfo(path, str(path.relative_to(root)))
    info.uname = info.gname = ""
    if not keep_times:
        info.mtime = 0
    if info.isreg():
        with path.open("rb") as content:
            tar.addfile(info, content)
    else:
        tar.addfile(info)


def _mark(tar: tarfile.TarFile, path: Path) -> None:
    tar.addfile(tarfile.TarInfo(str(path)))


def _is_opaque(folder: str) -> bool:
    try:
        return os.getxattr(folder, OPAQUE) == b"y"
    except OSError:
        return False


class _Hashing(io.RawIOBase):
    """A file that hashes what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.state: Any = hashlib.sha256()

    def write(self, content: Any) -> int:
        self.state.update(content)
        return self.file.write(content)
