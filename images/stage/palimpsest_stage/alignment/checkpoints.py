"""The one checkpoint of an alignment: in the output's store, for a later pod to go on from.

Whoever writes to that store could forge it. So nothing of it is ever unpickled but tensors and
numbers, and only files that a Trainer resumes from are taken, each by the digest it was kept under.
"""

import json
import logging
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from palimpsest.storage import AccessDenied, NotFound, S3Store
from transformers import TrainerCallback
from transformers.trainer_pt_utils import safe_globals

from palimpsest_stage.inputs import file_digest

log = logging.getLogger("palimpsest.stage")

_LISTING = "checkpoint.json"
# Not training_args.bin, which is a pickle of anything.
_RESUMED = re.compile(
    r"(adapter_)?model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json"
    r"|adapter_config\.json|optimizer\.pt|scheduler\.pt|rng_state\.pth|trainer_state\.json"
)


class Checkpoints:
    """A training's checkpoints, under `<prefix><step>-<attempt>/`; a new one replaces the last."""

    def __init__(self, store: S3Store, prefix: str) -> None:
        self._store, self._prefix = store, prefix

    def save(self, folder: Path, step: int, attempt: str) -> None:
        """Keep a Trainer's checkpoint folder; its listing, written last, makes it whole."""
        place = f"{self._prefix}{step:08d}-{attempt}/"
        files = [path for path in folder.iterdir() if _RESUMED.fullmatch(path.name)]
        for path in files:
            self._store.upload_file(path, place + path.name)
        listing = {"step": step, "files": {path.name: file_digest(path) for path in files}}
        self._store.put(place + _LISTING, json.dumps(listing).encode())
        self._keep_only(place)

    def latest(self, target: Path) -> Path | None:
        """The whole checkpoint with the most steps, fetched below `target`, if there is any."""
        found = []
        for uri in self._list():
            if uri.endswith(f"/{_LISTING}"):
                listing = _listing(self._read(uri))
                if listing:
                    found.append((listing["step"], uri.removesuffix(_LISTING), listing["files"]))
        for step, place, files in sorted(found, key=lambda one: (-one[0], one[1])):
            folder = target / f"checkpoint-{step}"
            if self._fetch(place, files, folder):
                return folder
        return None

    def _keep_only(self, place: str) -> None:
        """Delete the others. Who may not delete keeps them: they are as public as the model."""
        others = [uri for uri in self._list() if not uri.startswith(place)]
        try:
            # Listings first: what has none is no checkpoint.
            for uri in sorted(others, key=lambda uri: not uri.endswith(f"/{_LISTING}")):
                self._store.delete(uri)
        except AccessDenied:
            pass

    def _list(self) -> list[str]:
        try:
            return list(self._store.list(self._prefix))
        except AccessDenied:
            log.warning("keys that may not list %s keep no checkpoint to go on from", self._prefix)
            return []

    def _read(self, uri: str) -> bytes:
        try:
            return self._store.get(uri)
        except NotFound:
            return b""

    def _fetch(self, place: str, files: dict[str, str], folder: Path) -> bool:
        folder.mkdir(parents=True, exist_ok=True)
        for name, digest in files.items():
            path = folder / name
            try:
                self._store.download_file(place + name, path)
            except NotFound:
                return False
            if file_digest(path) != digest or not _plain(path):
                return False
        return True


class Keeper(TrainerCallback):  # type: ignore[misc]
    """Passes the trainer's checkpoints on to the store."""

    def __init__(self, checkpoints: Checkpoints, attempt: str) -> None:
        self._checkpoints, self._attempt = checkpoints, attempt

    def on_save(self, args: Any, state: Any, _control: Any, **_kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self._checkpoints.save(folder, state.global_step, self._attempt)


def _listing(data: bytes) -> dict[str, Any] | None:
    """A listing's content; None if it is damaged or names what no Trainer resumes from."""
    try:
        listing = json.loads(data)
        files = {str(name): str(digest) for name, digest in listing["files"].items()}
        if not files or not all(map(_RESUMED.fullmatch, files)):
            return None
        return {"step": int(listing["step"]), "files": files}
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _plain(path: Path) -> bool:
    """Whether a file holds what the Trainer will load without running anything."""
    if path.suffix not in (".pt", ".pth"):
        return True
    try:
        with safe_globals():
            torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        return False
    return True
