"""Tables on the terminal, by rich. Elsewhere the same as plain text, a row a line."""

import io
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import click
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from .standing import Stage, Standing, moment

_STYLES = {
    "Ready": "green",
    "Succeeded": "green",
    "Reconciling": "yellow",
    "Running": "yellow",
    "Stalled": "bold red",
    "Failed": "bold red",
}
# Columns that a row with what helps takes.
_ROOM = 120
# Outside a terminal nothing is broken into lines.
_WIDEST = 10_000

Cell = str | Text


def show(renderable: RenderableType) -> None:
    """Print it: in colours and the terminal's width, or plain where that is no terminal."""
    if sys.stdout.isatty():
        Console(highlight=False).print(renderable)
    else:
        click.echo(plain_text(renderable))


def plain_text(renderable: RenderableType) -> str:
    """It without colours, and without spaces at the ends of lines."""
    text = io.StringIO()
    Console(file=text, width=_WIDEST, color_system=None, highlight=False).print(renderable)
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip("\n").split("\n"))


def columns(heads: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Table:
    """A table without rules, as kubectl's; where it is too wide the widest columns are broken."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(clean(cell)) for cell in row))
    return table


def listing(standings: Sequence[Standing], now: datetime) -> RenderableType:
    """One row for each resource."""
    return _Listing(standings, now) if standings else Text("There is nothing to show.")


@dataclass(frozen=True)
class _Listing:
    """Where there is room, what helps stands in the row; else beneath the table."""

    standings: Sequence[Standing]
    now: datetime

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        """As rich asks for it."""
        wide = options.max_width >= _ROOM
        places = wide or len({each.namespace for each in self.standings if each.namespace}) > 1
        left_out = {"NAMESPACE": not places, "WHAT HELPS": not wide}
        rows = [
            {head: cell for head, cell in self._cells(each).items() if not left_out.get(head)}
            for each in self.standings
        ]
        yield columns(list(rows[0]), (list(row.values()) for row in rows))
        if not wide:
            yield from (
                Text(clean(f"{each.label}: {trouble(each)}"))
                for each in self.standings
                if trouble(each)
            )

    def _cells(self, found: Standing) -> dict[str, Cell]:
        return {
            "KIND": found.kind,
            "NAMESPACE": found.namespace,
            "NAME": found.name,
            "PROGRESS": found.progress,
            "SHARE": shares(found),
            "STATUS": _status(found),
            "AGE": _age(found, self.now),
            "WHAT HELPS": trouble(found),
        }


def details(found: Standing, now: datetime) -> RenderableType:
    """One resource with its stages."""
    parts: list[RenderableType] = [listing([found], now)]
    if found.stages:
        heads = ("STAGE", "STATE", "ATTEMPTS", "PROGRESS", "TOOK", "SHARE", "CHARGE", "MESSAGE")
        parts += [Text(), columns(heads, map(_stage_row, found.stages))]
    artifacts = [
        (stage.name, each.get("uri", ""), each.get("digest", ""))
        for stage in found.stages
        for each in stage.artifacts
    ]
    if artifacts:
        parts += [Text(), columns(("STAGE", "ARTIFACT", "DIGEST"), artifacts)]
    if found.guarantee:
        parts += [Text(), Text(clean(found.guarantee))]
    return Group(*parts)


def line(found: Standing) -> str:
    """A change on one line."""
    words = (
        found.label,
        _status(found).plain,
        found.progress,
        shares(found),
        clean(trouble(found)),
    )
    return "  ".join(filter(None, words))


def shares(found: Standing) -> str:
    """Of the budget: what is spent or held, for a reader."""
    held = percent(found.reserved)
    return f"{percent(found.share)} + {held}" if held not in ("", "0%") else percent(found.share)


def trouble(found: Standing) -> str:
    """Why it is not Ready, and what helps."""
    return "" if found.state == "Ready" else found.message


def percent(share: str) -> str:
    """A share such as 0.467 as 46.7%."""
    try:
        number = float(share) * 100
    except ValueError:
        return share
    return f"{number:.3g}%" if number < 100 else f"{number:.0f}%"


def span(seconds: float) -> str:
    """A duration: 42s, 8m04s, 3h05m, 12d06h."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d{hour:02d}h"
    if hours:
        return f"{hours}h{minute:02d}m"
    return f"{minutes}m{second:02d}s" if minutes else f"{second}s"


def clean(text: str) -> str:
    """On one line, without what could steer a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _status(found: Standing) -> Text:
    word = found.reason or found.state
    if found.suspended and found.state != "Ready":
        word = f"{word}, suspended" if word != "Suspended" else word
    return Text(clean(word), style=_STYLES.get(found.state, ""))


def _age(found: Standing, now: datetime) -> str:
    born = moment(found.created)
    return span(max(0.0, (now - born).total_seconds())) if born else ""


def _stage_row(stage: Stage) -> tuple[Cell, ...]:
    return (
        stage.name,
        Text(clean(stage.state), style=_STYLES.get(stage.state, "")),
        "" if stage.attempts is None else str(stage.attempts),
        stage.progress,
        "" if stage.seconds is None else span(stage.seconds),
        percent(stage.share),
        stage.charge,
        stage.message,
    )
