"""`palimpsest budget`: who spent what, what is left, how it came to that."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.text import Text

from palimpsest.audit.findings import Finding
from palimpsest.audit.journal import Replay, replay
from palimpsest.audit.spending import Account, Fit, of_journal, of_status
from palimpsest.ledger.errors import LedgerError
from palimpsest.ledger.nesting import location
from palimpsest.storage import StoreError, canonical_prefix

from . import completing
from .cluster import Cluster, Named, budget_file
from .errors import CouldNotCheckError
from .options import OFFLINE, access, stores, where
from .output import output_option, written
from .plot import Level, step_plot
from .sources import Access, journal_uri, read_folder, read_journal
from .tables import columns, show

_MOST_SUBJECT = 44


@dataclass(frozen=True)
class Shown:
    """An account with where it comes from and what must be said of it."""

    account: Account
    source: str
    notes: tuple[str, ...]


@click.command()
@click.argument("name", required=False, shell_complete=completing.budgets)
@where
@stores
@output_option
@click.option("--width", type=click.IntRange(40, 400), help="Of the plot; default: the terminal's.")
def budget(name: str | None, output: str, width: int | None, **options: Any) -> None:
    """Who spent what of a budget, what is left and would still fit, and its history.

    Without NAME all PrivacyBudgets of the cluster, one line each. Where your keys do not open the
    journal the status speaks alone.
    """
    reach = access(options)
    journal, file = options.pop("journal"), options.pop("budget_file")
    if journal is None:
        if file:
            raise click.UsageError("--budget-file goes with --journal")
        cluster = Cluster(options.pop("kubeconfig"), options.pop("context"), OFFLINE)
        found = [_look(each, reach) for each in cluster.budgets([name] if name else [])]
    elif name:
        raise click.UsageError("give NAME or --journal, not both")
    else:
        found = [_offline(journal, budget_file(file) if file else None, reach)]
    shown = [each for each in found if isinstance(each, Shown)]
    for trouble in (each for each in found if isinstance(each, str)):
        click.echo(trouble, err=True)
    if output == "text":
        show(_text(shown, single=bool(name or journal), width=width))
    else:
        plain = [_plain(each) for each in shown]
        whole: Any = plain[0] if (name or journal) and plain else plain
        click.echo(written(whole, output))
    sys.exit(0 if len(shown) == len(found) else CouldNotCheckError.exit_code)


def _look(named: Named, reach: Access) -> Shown | str:
    """The journal's word, else the status's; a text where neither can be had."""
    budget = named.budget
    if budget is None:
        return f"{named.name}: {named.trouble}"
    dataset = budget.spec.dataset
    try:
        uri = canonical_prefix(dataset.uri)
        objects = read_journal(reach.store(dataset.storage), uri)
        replayed = replay(objects, location(uri), uri)
        if replayed.state.is_open:
            return _of_journal(named.name, replayed, named, location(uri))
        why = replayed.findings[0].line() if replayed.findings else "the journal is empty"
    except (StoreError, LedgerError, ValueError) as error:
        why = str(error)
    account = of_status(named.name, budget)
    if account is None:
        return f"{named.name}: its status shows no figures yet, and the journal: {why}"
    note = f"The status alone, without history and with the latest charges only: {why}"
    return Shown(account, "status", (note,))


def _offline(journal: str, named: Named | None, reach: Access) -> Shown:
    try:
        if "://" in journal:
            uri = journal_uri(journal)
            place, objects = location(uri), read_journal(reach.store(), uri)
            replayed = replay(objects, place, uri)
        else:
            place = journal.rstrip("/") + "/"
            replayed = replay(read_folder(Path(journal)), place)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--journal") from error
    except OSError as error:
        raise CouldNotCheckError(f"{journal}: cannot be read ({error.strerror})") from error
    except (StoreError, LedgerError) as error:
        raise CouldNotCheckError(str(error)) from error
    if not replayed.state.is_open:
        raise CouldNotCheckError(_first(replayed.findings))
    return _of_journal(named.name if named else journal, replayed, named, place)


def _of_journal(name: str, replayed: Replay, named: Named | None, place: str) -> Shown:
    notes = (
        (f"The journal is not sound; what follows ends before that: {_first(replayed.findings)}",)
        if replayed.findings
        else ()
    )
    account = of_journal(name, replayed, named.budget if named else None)
    return Shown(account, place, notes)


def _first(findings: Sequence[Finding]) -> str:
    return findings[0].line() if findings else "the journal is empty"


def _plain(shown: Shown) -> dict[str, Any]:
    account = asdict(shown.account)
    fit = account.pop("fit")
    history = account.pop("history")
    return {
        **account,
        "charges": list(account["charges"]),
        "source": shown.source,
        "notes": list(shown.notes),
        "wouldFit": {
            "batchSize": fit["batch"],
            "steps": fit["steps"],
            "epsilon": fit["epsilon"],
            "histogramNoiseMultiplier": fit["histogram_noise"],
        },
        "history": list(history),
    }


def _text(shown: Sequence[Shown], single: bool, width: int | None) -> RenderableType:
    if single and shown:
        return _detail(shown[0], width)
    if not shown:
        return Text("There is no PrivacyBudget to show.")
    heads = ("NAME", "EPSILON", "DELTA", "COMMITTED", "RESERVED", "LEFT", "WOULD STILL FIT")
    rows = (
        (
            account.name,
            account.epsilon,
            account.delta,
            f"{account.committed:.2%}",
            f"{account.reserved:.2%}",
            f"{account.left:.2%}",
            _fits(account.fit),
        )
        for account in (each.account for each in shown)
    )
    notes = [Text(f"{each.account.name}: {note}") for each in shown for note in each.notes]
    return Group(columns(heads, rows), *notes)


def _detail(shown: Shown, width: int | None) -> RenderableType:
    account = shown.account
    lines = [
        f"{account.name}: (epsilon {account.epsilon}, delta {account.delta}), Rényi filter at "
        f"order {account.order}",
        *shown.notes,
        "",
        f"committed {account.committed:.2%}   reserved {account.reserved:.2%}   "
        f"left {account.left:.2%} of the limit (shares add up, epsilons do not)",
        "The budget was ended: nothing more can be reserved."
        if account.ended
        else f"Would still fit: {_fits(account.fit)}.",
    ]
    parts: list[RenderableType] = [Text("\n".join(lines))]
    if account.charges:
        rows = (
            (_cut(each.subject), each.mechanism, each.state, f"{each.share:.2%}")
            for each in account.charges
        )
        parts += [Text(), columns(("SUBJECT", "MECHANISM", "STATE", "SHARE"), rows)]
    if len(account.history) > 1:
        told = ["", "Share of the limit: solid committed, shaded reserved."]
        parts.append(Text("\n".join([*told, *_plot(account, width)])))
    return Group(*parts)


def _plot(account: Account, width: int | None) -> list[str]:
    levels: list[Level] = []
    for each in account.history:
        # Writers' clocks differ, a private stage tells the hour alone, and an entry's time is
        # nobody's proof: it never runs back here.
        at = max(_seconds(each.time), levels[-1].at if levels else 0.0)
        levels.append(Level(at, each.committed, each.reserved))
    columns = width or min(shutil.get_terminal_size((80, 24)).columns, 120)
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    return step_plot(
        levels,
        account.history[0].time[:16],
        max(account.history, key=lambda each: _seconds(each.time)).time[:16],
        columns,
        ascii_only=not encoding.startswith("utf"),
    )


def _seconds(time: str) -> float:
    try:
        return datetime.fromisoformat(time).timestamp()
    except ValueError:
        return 0.0


def _fits(fit: Fit) -> str:
    if fit.epsilon is None and fit.histogram_noise is None:
        return "nothing"
    training = (
        f"a training of epsilon {fit.epsilon} ({fit.steps} steps of {fit.batch})"
        if fit.epsilon
        else f"no training of {fit.steps} steps of {fit.batch}"
    )
    histogram = f"a histogram of noise {fit.histogram_noise}" if fit.histogram_noise else ""
    return f"{training}, or {histogram}" if histogram else training


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_SUBJECT else f"{text[: _MOST_SUBJECT - 1]}…"
