"""A volume that keeps models from pod to pod, each whole under its digest.

Other pods write to it too, and may be killed while they do. So nothing in it is believed: every
use reads every byte and compares it with the listing whose digest the task names. A note of an
earlier verification would save that (ten seconds for a 7B model, whose bytes must be read to be
loaded anyway) at the price of trusting all who can write. Beside private data a model is copied and
the copy checked: what is written to the cache in the meantime changes nothing.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from palimpsest.api.manifest import MODEL_LISTING, File
from palimpsest.api.task import sha256_digest

from palimpsest_stage.inputs import check_room, file_digest

# No download rests this long: its pod is gone.
ABANDONED_SECONDS = 3600.0


class ModelCache:
    """Models in a folder that several pods share, each in `<hex of its digest>/`.

    What it gave out stays where it is for as long as this object lives.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        # Locks on what was given out.
        self._held: list[IO[bytes]] = []

    def folder(self, digest: str, fetch: Callable[[Path], None]) -> Path | None:
        """The model, fetched into the cache where it is not there and sound.

        None where the cache cannot be written, or what it holds is damaged and in use. Raises what
        `fetch` raises beside OSError.
        """
        place = self._root / digest.removeprefix("sha256:")
        lock = _lock_file(place)
        if lock is not None:
            self._held.append(lock)
        # Before it is looked at: what is in use is never replaced.
        _had(lock, fcntl.LOCK_SH)
        if sound(place, digest):
            return place
        _had(lock, fcntl.LOCK_UN)
        try:
            with self._incoming(place.name) as incoming:
                fetch(incoming)
                there = _moved(incoming, place) or sound(place, digest)
                # Unless another pod was first, what is in the way is damaged.
                if not there and not _replaced(incoming, place, digest, lock):
                    return None
        except OSError:
            return None
        _had(lock, fcntl.LOCK_SH)
        return place

    @contextlib.contextmanager
    def _incoming(self, name: str) -> Iterator[Path]:
        """A folder of this process's own on the same volume. Raises OSError."""
        parent = self._root / ".incoming"
        parent.mkdir(exist_ok=True)
        mine = Path(tempfile.mkdtemp(prefix=f"{name[:16]}-", dir=parent))
        try:
            # By the volume's own clock.
            _sweep(parent, mine.stat().st_mtime - ABANDONED_SECONDS)
            model = mine / "model"
            model.mkdir()
            yield model
        finally:
            shutil.rmtree(mine, ignore_errors=True)


def sound(folder: Path, digest: str) -> bool:
    """Whether the folder holds the listing with this digest, its files whole, and nothing else."""
    try:
        told = (folder / MODEL_LISTING).read_bytes()
        if sha256_digest(told) != digest:
            return False
        files = [File.model_validate(entry) for entry in json.loads(told)["files"]]
        entries = list(folder.rglob("*"))
        there = {path.relative_to(folder).as_posix() for path in entries if not path.is_dir()}
        return (
            not any(path.is_symlink() for path in entries)
            and there == {MODEL_LISTING, *(file.path for file in files)}
            and all(file_digest(folder / file.path) == file.digest for file in files)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _moved(incoming: Path, place: Path) -> bool:
    """Move a whole model to its place, if that is free."""
    try:
        incoming.rename(place)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise
    return True


def _replaced(incoming: Path, place: Path, digest: str, lock: IO[bytes] | None) -> bool:
    """Put a whole model in the place of a damaged one, unless somebody uses that."""
    if not _had(lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
        return False
    if not sound(place, digest):
        place.rename(incoming.with_name("damaged"))
        incoming.rename(place)
    return True


def _lock_file(place: Path) -> IO[bytes] | None:
    """A file to lock `place` by; None where that cannot be had."""
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
        with contextlib.suppress(OSError):
            return os.fdopen(os.open(place.with_suffix(".lock"), flags, 0o660), "rb")
    return None


def copied(folder: Path, target: Path, digest: str, room: float) -> bool:
    """Copy a model into the empty folder `target`, which stays empty if the copy is not sound.

    Raises NoRoom if it is larger than `room` bytes.
    """
    check_room(sum(path.stat().st_size for path in folder.rglob("*")), target, room)
    with contextlib.suppress(OSError):
        shutil.copytree(folder, target, dirs_exist_ok=True)
        if sound(target, digest):
            return True
    for path in target.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return False


def _had(lock: IO[bytes] | None, how: int) -> bool:
    """Whether the lock was had. A volume that knows no locks gives none."""
    if lock is None:
        return False
    try:
        fcntl.flock(lock, how)
    except OSError:
        return False
    return True


def _sweep(parent: Path, before: float) -> None:
    """Remove what killed pods left, nothing of which was written since."""
    for folder in parent.iterdir():
        with contextlib.suppress(OSError):
            if max(path.stat().st_mtime for path in (folder, *folder.rglob("*"))) < before:
                shutil.rmtree(folder, ignore_errors=True)
