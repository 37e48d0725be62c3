"""`palimpsest suspend` and `resume`: whether a resource's next pod may start."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from palimpsest.api.crd import Resource

from . import completing, options
from .connection import Connection
from .kinds import wanted
from .output import output_option, written

_GIT = "Where manifests come from Git, say the same there: the next sync would undo it."


@dataclass(frozen=True)
class Done:
    """What became of a resource, under the names that programs are told."""

    kind: str
    namespace: str
    name: str
    suspended: bool
    changed: bool
    running: str  # the stage that has a pod; empty: none


def _command(command: Callable[..., None]) -> click.Command:
    named = click.argument(
        "targets",
        nargs=-1,
        required=True,
        metavar="KIND NAME... | KIND/NAME...",
        shell_complete=completing.targets,
    )
    return click.command()(named(options.namespace(options.cluster(output_option(command)))))


@_command
def suspend(
    targets: tuple[str, ...],
    namespace: str | None,
    kubeconfig: Path | None,
    context: str | None,
    output: str,
) -> None:
    """Start no new pod of a resource; a running one ends first.

    What is reserved of a budget stays reserved, what is spent stays spent.
    """
    _set(targets, True, namespace, kubeconfig, context, output)


@_command
def resume(
    targets: tuple[str, ...],
    namespace: str | None,
    kubeconfig: Path | None,
    context: str | None,
    output: str,
) -> None:
    """Let a suspended resource go on where it stopped."""
    _set(targets, False, namespace, kubeconfig, context, output)


def _set(
    targets: tuple[str, ...],
    suspended: bool,
    namespace: str | None,
    kubeconfig: Path | None,
    context: str | None,
    output: str,
) -> None:
    named = wanted(targets)
    for each in named:
        if each.kind.scope == "Cluster":
            raise click.UsageError(
                f"a {each.kind.kind} runs nothing that could be suspended; suspend what charges it"
            )
        if not each.names:
            raise click.UsageError(f"say which {each.kind.kind}: KIND NAME")
    asked = [(each.kind, name) for each in named for name in each.names]
    connection = Connection(kubeconfig, context)
    place = namespace or connection.namespace
    done: list[Done] = []
    try:
        for kind, name in asked:
            done.append(_one(connection, kind, place, name, suspended))
    finally:
        # Where a later one fails, what was changed before is told.
        _show(done, output, single=len(asked) == 1)


def _one(
    connection: Connection, kind: Resource, namespace: str, name: str, suspended: bool
) -> Done:
    raw = connection.read(kind, namespace, name)
    changed = bool(raw["spec"].get("suspend")) != suspended
    if changed:
        raw = connection.patch(kind, namespace, name, {"spec": {"suspend": suspended}})
    return Done(kind.kind, namespace, name, suspended, changed, _running(raw))


def _running(raw: dict[str, Any]) -> str:
    stages = (raw.get("status") or {}).get("stages") or ()
    return next((each["name"] for each in stages if each["state"] in ("Running", "Pending")), "")


def _show(done: Sequence[Done], output: str, single: bool) -> None:
    if output == "text":
        for each in done:
            click.echo(f"{each.kind} {each.namespace}/{each.name} {_said(each)}")
    elif done:
        figures = [_plain(each) for each in done]
        click.echo(written(figures[0] if single else figures, output))
    if any(each.changed for each in done):
        click.echo(_GIT, err=True)


def _plain(done: Done) -> dict[str, Any]:
    return {key: value for key, value in asdict(done).items() if value != ""}


def _said(done: Done) -> str:
    if not done.changed:
        return f"is {'' if done.suspended else 'not '}suspended already."
    if not done.suspended:
        return "goes on where it stopped."
    if done.running:
        return (
            f"is suspended: the pod of stage {done.running} ends first, then none starts until "
            "it is resumed. Its reservations stay."
        )
    return "is suspended: no pod starts until it is resumed. Its reservations stay."
