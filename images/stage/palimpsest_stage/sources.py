"""Where a model's files come from. Each way ends with files whose digests are the declared ones."""

import json
import shutil
from pathlib import Path

from palimpsest.api.manifest import MODEL_LISTING, File
from palimpsest.api.task import ClaimModelInput, HubModelInput, ModelInput, sha256_digest
from palimpsest.storage import S3Store
from palimpsest.storage.model_folder import described, listing, model_files

from palimpsest_stage import hub
from palimpsest_stage.errors import InputMismatch
from palimpsest_stage.inputs import check_room, download, verified


def from_store(model: ModelInput, store: S3Store, target: Path, room: float) -> None:
    """Download the listing and what it lists. Raises InputMismatch, OSError beyond `room` bytes."""
    told = verified(store, f"{model.uri}{MODEL_LISTING}", model.digest)
    try:
        files = [File.model_validate(entry) for entry in json.loads(told)["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputMismatch(f"{model.uri}{MODEL_LISTING} cannot be read") from error
    check_room(sum(file.size for file in files), room)
    for file in files:
        download(store, model.uri, file, target)
    (target / MODEL_LISTING).write_bytes(told)


def from_hub(model: HubModelInput, token: Path | None, target: Path, room: float) -> None:
    """Fetch a commit; `token` is a mounted Secret. Raises as `from_store`, and AccessDenied."""
    fetched = target.with_name(f"{target.name}-fetched")
    hub.fetch(model, token, fetched)
    told, files = _listed(fetched, model.digest)
    check_room(sum(file.size for file in files), room)
    for file in files:
        place = target / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        (fetched / file.path).rename(place)
    (target / MODEL_LISTING).write_bytes(told)
    # What remains is the hub client's own, and what the digest does not cover.
    shutil.rmtree(fetched)


def claimed(model: ClaimModelInput, claims: Path) -> Path:
    """The folder on the mounted claim, used in place. Raises InputMismatch."""
    folder = claims / model.claim / model.path
    _listed(folder, model.digest)
    return folder


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
