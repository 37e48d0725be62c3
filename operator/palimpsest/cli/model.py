"""`palimpsest model push`: put a model's folder where resources can pin it by digest."""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from palimpsest.api.manifest import MODEL_LISTING, File
from palimpsest.api.task import canonical_json
from palimpsest.storage import NotFound, S3Store, StoreError, canonical_prefix

from .options import access, stores

# Stages load safetensors alone and run no code of a folder: pickles and scripts are of no use to
# them, and would be a way to bring code to where private records are.
_LEFT_OUT = {".bin", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".pkl", ".pt", ".pth", ".py"}


@click.group()
def model() -> None:
    """Models in the object store, pinned by digest."""


@model.command(
    epilog="Example: palimpsest model push ./SmolLM2-135M s3://models/smollm2-135m/ "
    "--endpoint https://s3.example.com"
)
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("uri", metavar="URI")
@stores
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def push(folder: Path, uri: str, output: str, **options: Any) -> None:
    """Upload FOLDER (config, tokenizer, safetensors) to the prefix URI, and say its digest.

    What is pushed stays: another model needs another prefix. Hidden files, code and weights in
    other formats than safetensors are left out.
    """
    reach = access(options)
    try:
        target = canonical_prefix(uri)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="URI") from error
    chosen = choose(folder)
    with click.progressbar(chosen, label="hashing", file=sys.stderr) as paths:
        files = [described(folder, path) for path in paths]
    try:
        _upload(reach.store(), folder, target, files)
    except StoreError as error:
        raise click.ClickException(str(error)) from error
    reference = {"uri": target, "digest": _digest(listing(files))}
    if output == "json":
        click.echo(json.dumps(reference))
    else:
        click.echo("In a resource or a budget's allowedModels:")
        for name, value in reference.items():
            click.echo(f"  {name}: {value}")


def choose(folder: Path) -> list[Path]:
    """The files to push, in order. Raises click.BadParameter where no model is among them."""
    chosen = sorted(_files(folder))
    if folder / "config.json" not in chosen:
        raise click.BadParameter(f"{folder} holds no config.json", param_hint="FOLDER")
    if not any(path.suffix == ".safetensors" for path in chosen):
        raise click.BadParameter(
            f"{folder} holds no *.safetensors; write the weights with "
            "model.save_pretrained(..., safe_serialization=True)",
            param_hint="FOLDER",
        )
    return chosen


def described(folder: Path, path: Path) -> File:
    """A file's line in the listing."""
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return File(
        path=path.relative_to(folder).as_posix(),
        digest=f"sha256:{digest}",
        size=path.stat().st_size,
    )


def listing(files: list[File]) -> bytes:
    """The bytes whose digest pins the model."""
    return canonical_json({"files": [file.model_dump() for file in files]})


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        place = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in place.parts)
        left_out = path.suffix.lower() in _LEFT_OUT or place.as_posix() == MODEL_LISTING
        if path.is_file() and not hidden and not left_out:
            yield path


def _upload(store: S3Store, folder: Path, target: str, files: list[File]) -> None:
    told = listing(files)
    place = f"{target}{MODEL_LISTING}"
    if _is_there(store, place, told):
        return
    label = f"uploading {sum(file.size for file in files):,} bytes"
    with click.progressbar(files, label=label, file=sys.stderr) as sending:
        for file in sending:
            store.upload_file(folder / file.path, f"{target}{file.path}")
    # Last, and once: a model is whole when its listing is there.
    if not store.put_if_absent(place, told):
        _is_there(store, place, told)


def _is_there(store: S3Store, place: str, told: bytes) -> bool:
    """Whether this model is there already. Raises ClickException if another one is."""
    try:
        found = store.get(place)
    except NotFound:
        return False
    if found != told:
        raise click.ClickException(
            f"{place} lists another model ({_digest(found)}): resources may be pinned to it; push "
            "this one under another prefix"
        )
    return True


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
