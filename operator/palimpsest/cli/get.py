"""`palimpsest get`: where resources stand, and what helps where they do not go on."""

from datetime import UTC, datetime
from pathlib import Path

import click

from . import options
from .connection import Connection
from .kinds import wanted
from .output import output_option, written
from .reading import pods_of, read, scope
from .standing import plain, standing
from .tables import details, listing, show


@click.command(epilog="Exit code: 0 shown, 2 could not be read (docs/cli.md).")
@options.resources
@output_option
def get(
    targets: tuple[str, ...],
    namespace: str | None,
    everywhere: bool,
    kubeconfig: Path | None,
    context: str | None,
    output: str,
) -> None:
    """Show where resources stand: progress, share of the budget, what is wrong and what helps.

    One that is named is shown with its stages. KIND is privacybudget, privategenerator,
    syntheticdataset or alignmentrun, or a short name of theirs; without it all are listed.
    """
    named = wanted(targets)
    place = scope(Connection(kubeconfig, context), namespace, everywhere)
    found, untold = read(place, named)
    now = datetime.now(UTC)
    single = len(found) == 1 and bool(named[0].names)
    pods = pods_of(place.connection, found[0]) if single else None
    standings = [standing(each, now, pods) for each in found]
    for each in untold:
        click.echo(f"Left out: {each}", err=True)
    if output != "text":
        figures = [plain(each) for each in standings]
        click.echo(written(figures[0] if single else figures, output))
    else:
        show(details(standings[0], now) if single else listing(standings, now))
