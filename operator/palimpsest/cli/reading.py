"""What the commands about resources read of a cluster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click

from .connection import Connection, Json
from .errors import CouldNotCheckError, ForbiddenError
from .kinds import Wanted


@dataclass(frozen=True)
class Scope:
    """Where to look: a namespace, or all of them (empty)."""

    connection: Connection
    namespace: str


def scope(connection: Connection, namespace: str | None, everywhere: bool) -> Scope:
    """Where the options say. Raises click.UsageError where they say two things."""
    if everywhere and namespace:
        raise click.UsageError("give --namespace or --all-namespaces, not both")
    return Scope(connection, "" if everywhere else namespace or connection.namespace)


def check_names(place: Scope, wanted: Sequence[Wanted]) -> None:
    """Raises click.UsageError where names are asked for in all namespaces."""
    if not place.namespace and any(each.names for each in wanted):
        raise click.UsageError("a name needs one namespace: give --namespace, not --all-namespaces")


def read(place: Scope, wanted: Sequence[Wanted]) -> tuple[list[Json], list[str]]:
    """The resources, and of kinds that nobody named what could not be read."""
    check_names(place, wanted)
    found: list[Json] = []
    untold: list[str] = []
    for each in wanted:
        if each.names:
            found += [
                place.connection.read(each.kind, place.namespace, name) for name in each.names
            ]
            continue
        try:
            found += place.connection.listed(each.kind, place.namespace)["items"]
        except ForbiddenError as error:
            # A tenant's rights end before the custodian's PrivacyBudgets.
            untold.append(error.format_message())
    if untold and len(untold) == len(wanted):
        raise ForbiddenError("\n".join(untold))
    return found, untold


def pods_of(connection: Connection, raw: Json) -> list[Mapping[str, str]] | None:
    """The labels of a resource's pods outside custody; None where they may not be listed."""
    from palimpsest.reconcile.jobs import LABEL_KIND, LABEL_NAME  # noqa: PLC0415 - slow

    metadata = raw["metadata"]
    labels = {LABEL_KIND: raw["kind"], LABEL_NAME: metadata["name"]}
    if not metadata.get("namespace"):
        return None
    try:
        pods = connection.pods(metadata["namespace"], labels)
    except CouldNotCheckError:
        return None
    return [each.metadata.labels for each in pods]
