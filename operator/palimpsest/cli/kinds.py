"""The kinds as the commands take them, and what a command's arguments name. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import click

from palimpsest.api.crd import RESOURCES, Resource


@dataclass(frozen=True)
class Wanted:
    """Resources of a kind: of these names, or all."""

    kind: Resource
    names: tuple[str, ...] = ()


K = TypeVar("K", bound=Resource)


def spellings(kind: Resource) -> tuple[str, ...]:
    """A kind's names in lower case, the singular first."""
    return (kind.kind.lower(), kind.plural, *kind.short_names)


def by_spelling(kinds: Iterable[K]) -> dict[str, K]:
    """The kinds by all names that they go by."""
    return {name: kind for kind in kinds for name in spellings(kind)}


def kind_of(text: str) -> Resource:
    """The kind that is called so. Raises click.UsageError."""
    # As kubectl takes it: privategenerators.palimpsest.dev, too.
    found = by_spelling(RESOURCES).get(text.lower().removesuffix(".palimpsest.dev"))
    if found is None:
        there = ", ".join(f"{kind.kind.lower()} ({kind.short_names[0]})" for kind in RESOURCES)
        raise click.UsageError(f"no kind {text[:60]!r}; there is: {there}")
    return found


def wanted(arguments: Sequence[str]) -> tuple[Wanted, ...]:
    """What `[KIND [NAME]... | KIND/NAME...]` names; nothing names all. Raises click.UsageError."""
    if not arguments:
        return tuple(Wanted(kind) for kind in RESOURCES)
    if not any("/" in each for each in arguments):
        return (Wanted(kind_of(arguments[0]), tuple(dict.fromkeys(arguments[1:]))),)
    names: dict[Resource, list[str]] = {}
    for each in arguments:
        kind, separator, name = each.partition("/")
        if not separator or not name:
            raise click.UsageError(f"{each[:60]!r}: write every one as KIND/NAME, or KIND NAME...")
        names.setdefault(kind_of(kind), []).append(name)
    return tuple(Wanted(kind, tuple(dict.fromkeys(each))) for kind, each in names.items())
