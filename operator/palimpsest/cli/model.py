"""`palimpsest model`: put a model's folder into a store, and say the digest that pins it."""

import sys
from pathlib import Path
from typing import Any

import click

from palimpsest.api.manifest import MODEL_LISTING, File
from palimpsest.api.task import sha256_digest
from palimpsest.storage import NotFound, S3Store, StoreError, canonical_prefix
from palimpsest.storage.model_folder import described, listing, model_files

from .options import access, stores
from .output import output_option, written


@click.group()
def model() -> None:
    """Models, pinned by digest."""


@model.command(
    epilog="Example: palimpsest model push ./SmolLM2-135M s3://models/smollm2-135m/ "
    "--endpoint https://s3.example.com"
)
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("uri", metavar="URI")
@stores
@output_option
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
    files = _hashed(folder)
    try:
        _upload(reach.store(), folder, target, files)
    except StoreError as error:
        raise click.ClickException(str(error)) from error
    reference = {"uri": target, "digest": sha256_digest(listing(files))}
    if output != "text":
        click.echo(written(reference, output, indent=None))
    else:
        click.echo("In a resource or a budget's allowedModels:")
        for name, value in reference.items():
            click.echo(f"  {name}: {value}")


@model.command(epilog="Example: palimpsest model digest ./SmolLM2-135M")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@output_option
def digest(folder: Path, output: str) -> None:
    """Say the digest that pins FOLDER, wherever its files come from.

    The same that `push` says: for a model that stages fetch from a hub (hf://) or find on a volume
    (pvc://), take it from a copy that you trust.
    """
    found = sha256_digest(listing(_hashed(folder)))
    click.echo(found if output == "text" else written({"digest": found}, output, indent=None))


def _hashed(folder: Path) -> list[File]:
    """The model's files. Raises click.BadParameter where the folder holds none."""
    try:
        chosen = model_files(folder)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="FOLDER") from error
    with click.progressbar(chosen, label="hashing", file=sys.stderr) as paths:
        return [described(folder, path) for path in paths]


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
            f"{place} lists another model ({sha256_digest(found)}): resources may be pinned to "
            "it; push this one under another prefix"
        )
    return True
