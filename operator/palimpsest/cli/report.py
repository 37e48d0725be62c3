"""`palimpsest report`: a page about a generator, a data set or a run."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from palimpsest.api.alignment import AlignmentRun
from palimpsest.api.common import ArtifactRef, Storage
from palimpsest.api.dataset import SyntheticDataset
from palimpsest.api.generator import PrivateGenerator
from palimpsest.api.manifest import MANIFEST, Manifest
from palimpsest.api.task import sha256_digest
from palimpsest.report.facts import FILES, Facts, Named, Resource, artifacts
from palimpsest.report.page import render
from palimpsest.storage import StoreError

from . import completing, options
from .cluster import Cluster
from .errors import CouldNotCheckError
from .kinds import by_spelling
from .sources import Access

# Larger ones are no figures for a page.
_LARGEST = 4 * 1024 * 1024
_KINDS: Mapping[str, type[Resource]] = by_spelling(
    (PrivateGenerator, SyntheticDataset, AlignmentRun)
)


def _file(_context: click.Context, _option: click.Parameter, given: str | None) -> Path | None:
    """Where the page goes. Raises click.BadParameter for what other commands take there."""
    if given in ("json", "yaml"):
        raise click.BadParameter(
            f"the page is HTML: name its file, such as report.html; for programs there is "
            f"palimpsest get KIND NAME -o {given}"
        )
    return None if given is None else Path(given)


@click.command(
    epilog="Example: kubectl palimpsest report alignmentrun assistant -n assistants -o report.html"
)
@click.argument("kind", type=click.Choice(sorted(_KINDS), case_sensitive=False), metavar="KIND")
@click.argument("name", shell_complete=completing.names)
@options.namespace
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    callback=_file,
    metavar="FILE",
    help="Default: KIND-NAME.html; - for standard output.",
)
@options.cluster
@options.stores
def report(
    kind: str,
    name: str,
    namespace: str | None,
    output: Path | None,
    kubeconfig: Path | None,
    context: str | None,
    **others: Any,
) -> None:
    """Write one HTML page about a resource and all it was made from.

    KIND is privategenerator, syntheticdataset or alignmentrun, or a short name of theirs. The page
    needs no network. Figures and samples are read from the stores with your own keys, and left out
    where these do not open them.
    """
    reach = options.access(others)
    cluster = Cluster(kubeconfig, context)
    found = _KINDS[kind.lower()]
    facts = collect(cluster, found, namespace or cluster.namespace, name, reach)
    page = render(facts)
    for line in facts.untold:
        click.echo(line, err=True)
    if output == Path("-"):
        click.echo(page, nl=False)
        return
    path = output or Path(f"{found.kind.lower()}-{name}.html")
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise click.FileError(str(path), error.strerror) from error
    click.echo(f"{path} written.", err=True)


def collect(
    cluster: Cluster,
    kind: type[Resource],
    namespace: str,
    name: str,
    reach: Access,
) -> Facts:
    """Read a resource and what it names. Raises CouldNotCheckError if that one cannot be read."""
    untold: list[str] = []
    chain = [Named(name, cluster.resource(kind, namespace, name))]
    try:
        while (above := _above(chain[0])) is not None:
            kind, name = above
            chain.insert(0, Named(name, cluster.resource(kind, namespace, name)))
    except CouldNotCheckError as error:
        untold.append(f"{error.format_message()}.")
    first, budget, budget_name = chain[0].resource, None, ""
    if isinstance(first, PrivateGenerator):
        budget_name = first.spec.budget_ref.name
        try:
            (named,) = cluster.budgets([budget_name])
            budget = named.budget
        except CouldNotCheckError as error:
            untold.append(f"{error.format_message()}.")
    facts = Facts(namespace, tuple(chain), budget_name, budget)
    files = _files(facts, reach, untold)
    return replace(facts, files=files, untold=tuple(untold))


def _above(
    named: Named,
) -> tuple[type[PrivateGenerator] | type[SyntheticDataset], str] | None:
    """What a resource was made from."""
    if isinstance(named.resource, AlignmentRun):
        return SyntheticDataset, named.resource.spec.dataset_ref.name
    if isinstance(named.resource, SyntheticDataset):
        return PrivateGenerator, named.resource.spec.generator_ref.name
    return None


def _files(facts: Facts, reach: Access, untold: list[str]) -> Mapping[tuple[str, str], bytes]:
    found: dict[tuple[str, str], bytes] = {}
    for stage, artifact, storage in artifacts(facts):
        try:
            read = _read(reach, artifact, storage, FILES[stage])
            found |= {(stage, name): data for name, data in read.items()}
        except (StoreError, ValueError) as error:
            untold.append(f"Of the {stage} stage: {error}.")
    return found


def _read(
    reach: Access, artifact: ArtifactRef, storage: Storage, wanted: tuple[str, ...]
) -> dict[str, bytes]:
    """Some files of an artifact, each held against its digest. Raises StoreError, ValueError."""
    store = reach.store(storage)
    data = store.get(artifact.uri)
    if sha256_digest(data) != artifact.digest:
        raise ValueError(f"{artifact.uri} is not the manifest that the status names")
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        raise ValueError(f"{artifact.uri} is no manifest") from error
    found = {}
    for file in manifest.files:
        name = file.path.rsplit("/", 1)[-1]
        if name in wanted and file.size <= _LARGEST:
            found[name] = store.get(artifact.uri.removesuffix(MANIFEST) + file.path)
            if sha256_digest(found[name]) != file.digest:
                raise ValueError(f"{file.path} beside {artifact.uri} has another digest")
    return found
