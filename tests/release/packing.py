"""Archives whose bytes follow from the names and contents of files alone."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Mapping
from pathlib import Path


def files_in(folder: Path) -> dict[str, Path]:
    """All files of a folder by their names in it."""
    found = (each for each in folder.rglob("*") if each.is_file())
    return {each.relative_to(folder).as_posix(): each for each in found}


def pack(files: Mapping[str, Path], path: Path, epoch: int) -> None:
    """A .tar.gz of files by name: in order, of one time, nobody's, plain or executable."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for name, file in sorted(files.items()):
            status = file.stat()
            member = tarfile.TarInfo(name)
            member.size, member.mtime = status.st_size, epoch
            member.mode = 0o755 if status.st_mode & 0o100 else 0o644
            with file.open("rb") as content:
                tar.addfile(member, content)
