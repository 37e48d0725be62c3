"""What is built once and kept: folders named by the hash of what they were built from."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def root() -> Path:
    """The cache folder: $PALIMPSEST_CACHE, else ~/.cache/palimpsest."""
    given = os.environ.get("PALIMPSEST_CACHE")
    folder = Path(given) if given else Path.home() / ".cache" / "palimpsest"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def digest(*parts: str | Path) -> str:
    """Sixteen hex digits of a hash over strings and the names and bytes of files and folders."""
    state = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            _feed(state, b"s", part.encode())
            continue
        files = [part] if part.is_file() else sorted(f for f in part.rglob("*") if f.is_file())
        for file in files:
            if "__pycache__" in file.parts:
                continue
            _feed(state, b"n", str(file.relative_to(part.parent)).encode())
            _feed(state, b"f", file.read_bytes())
    return state.hexdigest()[:16]


def _feed(state: hashlib._Hash, kind: bytes, content: bytes) -> None:
    state.update(kind + len(content).to_bytes(8, "big"))
    state.update(content)


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Waits for, then holds, a lock that ends with the process."""
    path = root() / "locks" / name
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def artefact(name: str, key: str, build: Callable[[Path], None]) -> Path:
    """The folder <cache>/<name>/<key>, built by `build(folder)` if it is not there.

    It appears by a rename once whole, so an interrupted build leaves nothing that counts.
    """
    final = root() / name / key
    if final.is_dir():
        return final
    with locked(f"{name}-{key}"):
        if final.is_dir():
            return final
        unfinished = final.with_name(f".{key}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        try:
            build(unfinished)
            unfinished.rename(final)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return final


def write_atomic(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Writes a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    data = content.encode() if isinstance(content, str) else content
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    unfinished.rename(path)
