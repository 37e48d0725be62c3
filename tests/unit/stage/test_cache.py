"""The models' cache: shared by pods that do not trust one another, nor that they live on."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from palimpsest.api.manifest import MODEL_LISTING
from palimpsest.api.task import sha256_digest
from palimpsest.storage.model_folder import described, listing, model_files
from palimpsest_stage.cache import ABANDONED_SECONDS, ModelCache, copied, sound
from palimpsest_stage.errors import InputMismatch, NoRoom

FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights" * 1000,
    "1_Pooling/config.json": b'{"pooling": "mean"}',
}


class Origin:
    """A model's store: puts the files into a folder, and counts how often."""

    def __init__(self, files: dict[str, bytes], tmp_path: Path) -> None:
        self.files, self.asked = files, 0
        folder = tmp_path / "origin"
        self._write(folder)
        self.listing = listing([described(folder, path) for path in model_files(folder)])
        self.digest = sha256_digest(self.listing)

    def fetch(self, target: Path) -> None:
        self.asked += 1
        self._write(target)
        (target / MODEL_LISTING).write_bytes(self.listing)

    def _write(self, target: Path) -> None:
        for name, data in self.files.items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(FILES, tmp_path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


def place(root: Path, origin: Origin) -> Path:
    return root / origin.digest.removeprefix("sha256:")


def test_a_model_is_fetched_once_and_kept_under_its_digest(root: Path, origin: Origin) -> None:
    for _ in range(3):
        # Each pod has a process of its own; its locks end with it.
        folder = ModelCache(root).folder(origin.digest, origin.fetch)
        assert folder == place(root, origin)
        assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    assert origin.asked == 1
    assert list((root / ".incoming").iterdir()) == []


def _flip(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _flip_with_old_times(folder: Path) -> None:
    """What a note of size and time of an earlier verification would not see."""
    path = folder / "model.safetensors"
    before = path.stat()
    _flip(folder)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _other_listing(folder: Path) -> None:
    _flip(folder)
    lines = [described(folder, path) for path in model_files(folder)]
    (folder / MODEL_LISTING).write_bytes(listing(lines))


def _link(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.rename(folder.parent / "elsewhere")
    weights.symlink_to(folder.parent / "elsewhere")


def _file_more(folder: Path) -> None:
    """By PEFT's file of this name transformers loads another model."""
    (folder / "adapter_config.json").write_text("{}")


DAMAGES: list[Callable[[Path], None]] = [
    _flip,
    _flip_with_old_times,
    _other_listing,
    _link,
    lambda folder: (folder / "config.json").unlink(),
    lambda folder: (folder / MODEL_LISTING).unlink(),
    _file_more,
    lambda folder: os.truncate(folder / "model.safetensors", 5),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_not_the_model_is_never_used_and_replaced(
    root: Path, origin: Origin, damage: Callable[[Path], None]
) -> None:
    ModelCache(root).folder(origin.digest, origin.fetch)
    damage(place(root, origin))
    folder = ModelCache(root).folder(origin.digest, origin.fetch)
    assert folder == place(root, origin)
    assert sound(folder, origin.digest)
    assert origin.asked == 2


def test_what_is_damaged_but_in_use_is_left_and_scratch_must_do(root: Path, origin: Origin) -> None:
    """Another pod loads from it: to take it away would fail that pod, too."""
    ModelCache(root).folder(origin.digest, origin.fetch)
    with place(root, origin).with_suffix(".lock").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        _flip(place(root, origin))
        assert ModelCache(root).folder(origin.digest, origin.fetch) is None
        assert place(root, origin).exists()
    assert ModelCache(root).folder(origin.digest, origin.fetch) == place(root, origin)


def test_a_wrong_model_never_comes_into_the_cache(root: Path, origin: Origin) -> None:
    def wrong(target: Path) -> None:
        origin.fetch(target)
        raise InputMismatch("another digest than declared")

    with pytest.raises(InputMismatch):
        ModelCache(root).folder(origin.digest, wrong)
    assert not place(root, origin).exists()
    assert list((root / ".incoming").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_read_and_else_left(root: Path, origin: Origin) -> None:
    """As user 65532 on a volume of root's. No mode stops root, who tests: a file is in the way."""
    (root / ".incoming").write_text("")
    assert ModelCache(root).folder(origin.digest, origin.fetch) is None
    assert origin.asked == 0
    origin.fetch(place(root, origin))
    assert ModelCache(root).folder(origin.digest, origin.fetch) == place(root, origin)


def test_a_cache_that_is_gone_or_full_is_left(root: Path, origin: Origin) -> None:
    def full(_target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert ModelCache(root / "gone").folder(origin.digest, origin.fetch) is None
    assert ModelCache(root).folder(origin.digest, full) is None
    assert list((root / ".incoming").iterdir()) == []


def test_a_copy_is_what_was_checked_or_nothing(root: Path, origin: Origin, tmp_path: Path) -> None:
    """Beside private data: between the check of the original and the loading somebody writes."""
    folder = ModelCache(root).folder(origin.digest, origin.fetch)
    assert folder is not None
    target = tmp_path / "scratch"
    target.mkdir()
    _flip(folder)
    assert not copied(folder, target, origin.digest, math.inf)
    assert list(target.iterdir()) == []
    _flip(folder)
    assert copied(folder, target, origin.digest, math.inf)
    _flip(folder)
    assert sound(target, origin.digest)
    with pytest.raises(NoRoom, match="larger than the volume"):
        copied(folder, target, origin.digest, 1000)


# A pod: fetches slowly, file by file, and says when it has the model.
POD = """
import sys, time
from pathlib import Path
from palimpsest_stage.cache import ModelCache, sound
origin, root, digest, pause = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], float(sys.argv[4])
def fetch(target):
    for path in sorted(p for p in origin.rglob("*") if p.is_file()):
        place = target / path.relative_to(origin)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
        print("wrote", flush=True)
        time.sleep(pause)
folder = ModelCache(root).folder(digest, fetch)
print("has", folder is not None and sound(folder, digest), flush=True)
"""


def pod(tmp_path: Path, root: Path, origin: Origin, pause: float) -> subprocess.Popen[str]:
    whole = tmp_path / "whole"
    if not whole.exists():
        origin.fetch(whole)
    return subprocess.Popen(
        [sys.executable, "-c", POD, str(whole), str(root), origin.digest, str(pause)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_several_pods_at_once_all_have_it(tmp_path: Path, root: Path, origin: Origin) -> None:
    pods = [pod(tmp_path, root, origin, 0.02) for _ in range(4)]
    for each in pods:
        assert each.communicate(timeout=60)[0].splitlines()[-1] == "has True"
    assert sound(place(root, origin), origin.digest)
    assert list((root / ".incoming").iterdir()) == []


def test_a_pod_killed_in_mid_download_leaves_nothing_that_is_taken_for_the_model(
    tmp_path: Path, root: Path, origin: Origin
) -> None:
    killed = pod(tmp_path, root, origin, 60)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "wrote\n"
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not place(root, origin).exists()
    (left,) = (root / ".incoming").iterdir()

    # It may still be at work: only what rested for long is swept.
    assert ModelCache(root).folder(origin.digest, origin.fetch) == place(root, origin)
    assert left.exists()
    for path in (*left.rglob("*"), left):
        os.utime(path, (time.time() - ABANDONED_SECONDS - 60,) * 2)
    other = Origin(FILES | {"config.json": b'{"other": 1}'}, tmp_path / "second")
    assert ModelCache(root).folder(other.digest, other.fetch) == place(root, other)
    assert not left.exists()
