"""`palimpsest watch`: the same as `get`, live."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, Self

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from . import options
from .connection import Connection, Json
from .errors import CouldNotCheckError
from .kinds import Wanted, wanted
from .output import output_option, written
from .reading import Scope, check_names, pods_of, read, scope
from .standing import Standing, plain, standing
from .tables import clean, details, line, listing
from .watching import Failed, Lost, View, ended, news

STALLED, INTERRUPTED = 1, 130


class Teller(Protocol):
    """Shows what there is, and says what must be said of it."""

    def tell(self, resources: Sequence[Json]) -> list[Standing]:
        """Show them; returns where they stand."""

    def note(self, text: str) -> None:
        """Say a sentence beside them."""


class Lines:
    """Every change as a line, or as a document."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._before: dict[tuple[str, str, str], Standing] = {}

    def tell(self, resources: Sequence[Json]) -> list[Standing]:
        """Write those that differ from what was told before."""
        moment = datetime.now(UTC)
        standings = [standing(each, moment) for each in resources]
        now = {each.key: each for each in standings}
        gone = [
            replace(each, state="Deleted", reason="Deleted", message="")
            for key, each in self._before.items()
            if key not in now
        ]
        for each in (*standings, *gone):
            if self._before.get(each.key) != each:
                click.echo(self._written(each, moment))
        self._before = now
        return standings

    def note(self, text: str) -> None:
        """On standard error."""
        click.echo(clean(text), err=True)

    def _written(self, found: Standing, moment: datetime) -> str:
        if self._output == "json":
            return written(plain(found), "json", indent=None)
        if self._output == "yaml":
            return f"---\n{written(plain(found), 'yaml')}"
        return f"{moment:%Y-%m-%dT%H:%M:%SZ}  {line(found)}"


class Table:
    """One table that stays up to date on a terminal."""

    def __init__(self, connection: Connection, single: bool) -> None:
        self._connection, self._single = connection, single
        self._live = Live(console=Console(highlight=False), auto_refresh=False)
        self._version = ""
        self._pods: list[Mapping[str, str]] | None = None

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *ended: object) -> None:
        self._live.stop()

    def tell(self, resources: Sequence[Json]) -> list[Standing]:
        """Draw them anew: ages and durations go on."""
        now = datetime.now(UTC)
        pods = self._pods_of(resources[0]) if self._single and resources else None
        standings = [standing(each, now, pods) for each in resources]
        single = self._single and standings
        drawn = details(standings[0], now) if single else listing(standings, now)
        self._live.update(drawn, refresh=True)
        return standings

    def note(self, text: str) -> None:
        """Above the table."""
        self._live.console.print(Text(clean(text)))

    def _pods_of(self, raw: Json) -> list[Mapping[str, str]] | None:
        version = raw["metadata"]["resourceVersion"]
        if version != self._version:
            self._version, self._pods = version, pods_of(self._connection, raw)
        return self._pods


@click.command(
    epilog="Exit code with --until-ready: 0 all are Ready, 1 one is Stalled or was deleted; "
    "2 could not be read (docs/cli.md)."
)
@options.resources
@click.option(
    "--until-ready",
    is_flag=True,
    help="End when all of them are Ready, or one is Stalled: then with exit code 1.",
)
@output_option
def watch(
    targets: tuple[str, ...],
    namespace: str | None,
    everywhere: bool,
    kubeconfig: Path | None,
    context: str | None,
    until_ready: bool,
    output: str,
) -> None:
    """Show where resources stand, live; a named one with its stages.

    Where the output is no terminal every change is a line: words, or with -o one document.
    """
    named = wanted(targets)
    place = scope(Connection(kubeconfig, context), namespace, everywhere)
    check_names(place, named)
    # Names that are not there and missing rights are told before anything is waited for.
    found, untold = read(place, named)
    for each in untold:
        click.echo(f"Left out: {each}", err=True)
    if until_ready and not found:
        raise CouldNotCheckError("there is nothing to wait for")
    with ExitStack() as stack:
        teller: Teller = Lines(output)
        if output == "text" and sys.stdout.isatty():
            single = len(found) == 1 and bool(named[0].names)
            teller = stack.enter_context(Table(place.connection, single))
        try:
            code = follow(place, named, until_ready, teller)
        except KeyboardInterrupt:
            code = INTERRUPTED
    sys.exit(code)


def follow(place: Scope, named: Sequence[Wanted], until_ready: bool, teller: Teller) -> int:
    """Tell what happens until that is over; returns the exit code. Raises CouldNotCheckError."""
    view = View(named)
    for told in news(place, named):
        if isinstance(told, Lost):
            teller.note(f"{told.why}; it is asked again")
        elif isinstance(told, Failed):
            if len(named) == 1:
                raise told.error
            view.give_up(told.kind)
        elif told is not None:
            view.take(told)
        if not view.complete:
            continue
        standings = teller.tell(list(view.resources.values()))
        if until_ready and (over := _over(view, standings)):
            word, code = over
            teller.note(word)
            return code
    return 0


def _over(view: View, standings: Sequence[Standing]) -> tuple[str, int] | None:
    """The last word and the exit code, where waiting is over."""
    absent = view.absent()
    if absent or not standings:
        return f"{', '.join(absent) or 'the last one'} was deleted.", STALLED
    end = ended(standings)
    if end == "Stalled":
        stalled = next(each for each in standings if each.state == "Stalled")
        return f"{stalled.label} is stalled: {stalled.message}", STALLED
    return ("All are Ready.", 0) if end == "Ready" else None
