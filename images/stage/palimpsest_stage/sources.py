"""Where a model's files come from. Each way ends with files whose digests are the declared ones."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from palimpsest.api.manifest import MODEL_LISTING, File
from palimpsest.api.task import ClaimModelInput, HubModelInput, ModelInput, sha256_digest
from palimpsest.storage import S3Store
from palimpsest.storage.model_folder import described, listing, model_files

from palimpsest_stage import hub
from palimpsest_stage.errors import InputMismatch
from palimpsest_stage.inputs import check_room, download, verified

# Asks of a folder with a config.json, and of the bytes of the weights that belong to it, whether
# such a model fits.
Fits = Callable[[Path, int], None]


def from_store(model: ModelInput, store: S3Store, fits: Fits, target: Path, room: float) -> None:
    """Download the listing and what it lists, the weights after `fits` was asked.

    Raises InputMismatch, NoRoom beyond `room` bytes, and what `fits` raises.
    """
    told = verified(store, f"{model.uri}{MODEL_LISTING}", model.digest)
    try:
        files = [File.model_validate(entry) for entry in json.loads(told)["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputMismatch(f"{model.uri}{MODEL_LISTING} cannot be read") from error
    check_room(sum(file.size for file in files), target, room)
    weights = [file for file in files if _holds_weights(file.path)]
    for file in files:
        if file not in weights:
            download(store, model.uri, file, target)
    fits(target, sum(file.size for file in weights))
    for file in weights:
        download(store, model.uri, file, target)
    (target / MODEL_LISTING).write_bytes(told)


def from_hub(
    model: HubModelInput, token: Path | None, fits: Fits, target: Path, room: float
) -> None:
    """Fetch a commit; `token` is a mounted Secret. Raises as `from_store`, and AccessDenied."""
    fetched = target.with_name(f"{target.name}-fetched")
    sizes = hub.look(model, token, fetched)
    check_room(sum(sizes.values()), target, room)
    fits(fetched, sum(size for path, size in sizes.items() if _holds_weights(path)))
    hub.fetch(model, token, fetched)
    told, files = _listed(fetched, model.digest)
    for file in files:
        place = target / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        (fetched / file.path).rename(place)
    (target / MODEL_LISTING).write_bytes(told)
    # What remains is the hub client's own, and what the digest does not cover.
    shutil.rmtree(fetched)


def claimed(model: ClaimModelInput, fits: Fits, claims: Path) -> Path:
    """The folder on the mounted claim, used in place. Raises InputMismatch, and as `fits`."""
    folder = claims / model.claim / model.path
    fits(folder, weights_size(folder))
    _listed(folder, model.digest)
    return folder


def weights_size(folder: Path) -> int:
    """Bytes of a model's weights."""
    return sum(path.stat().st_size for path in folder.rglob("*") if _holds_weights(path.name))


def _holds_weights(path: str) -> bool:
    return path.endswith(".safetensors")


def _listed(folder: Path, digest: str) -> tuple[bytes, list[File]]:
    """The listing of a folder's files. Raises InputMismatch unless it has the digest."""
    try:
        files = [described(folder, path) for path in model_files(folder)]
    except (ValueError, OSError) as error:
        raise InputMismatch(str(error)) from error
    told = listing(files)
    if sha256_digest(told) != digest:
        raise InputMismatch(
            f"{folder.name}: the files have the digest {sha256_digest(told)}, not the declared one"
        )
    return told, files
