"""Fetching what is declared by digest, and nothing else."""

import hashlib
import shutil
from pathlib import Path

from palimpsest.api.manifest import File
from palimpsest.api.task import sha256_digest
from palimpsest.storage import NotFound, S3Store, parse_uri

from palimpsest_stage.errors import InputMismatch, NoRoom


def file_digest(path: Path) -> str:
    """`sha256:<hex>` of a file."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def check_room(size: int, place: Path, room: float) -> None:
    """Raises NoRoom where `size` bytes are too many for `place`, or for what it may take.

    Before records are opened: a pod evicted later would have spent for nothing.
    """
    room = min(room, shutil.disk_usage(place).free)
    if size > room:
        raise NoRoom(size, room)


def verified(store: S3Store, uri: str, digest: str) -> bytes:
    """The object's bytes. Raises InputMismatch unless they have the digest."""
    try:
        data = store.get(uri)
    except NotFound as error:
        raise InputMismatch(str(error)) from error
    if sha256_digest(data) != digest:
        raise InputMismatch(f"{uri} has another digest than declared")
    return data


def download(store: S3Store, prefix: str, file: File, target: Path, flat: bool = False) -> None:
    """A listed file to its place below `target`, or by its last name. Raises InputMismatch."""
    parts = file.path.split("/")
    if not all(parts) or {".", ".."} & set(parts):
        raise InputMismatch(f"{file.path}: not a path inside the artifact")
    path = target / parts[-1] if flat else target.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        store.download_file(str(parse_uri(prefix + file.path)), path)
    except NotFound as error:
        raise InputMismatch(str(error)) from error
    if file_digest(path) != file.digest:
        raise InputMismatch(f"{prefix}{file.path} has another digest than declared")
