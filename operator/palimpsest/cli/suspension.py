"""`palimpsest suspend` and `resume`: whether a resource's next pod may start."""

from collections.abc import Callable
from pathlib import Path

import click

from palimpsest.api.crd import Resource

from . import completing, options
from .connection import Connection
from .kinds import wanted

_GIT = "Where manifests come from Git, say the same there: the next sync would undo it."


def _command(command: Callable[..., None]) -> click.Command:
    named = click.argument(
        "targets",
        nargs=-1,
        required=True,
        metavar="KIND NAME... | KIND/NAME...",
        shell_complete=completing.targets,
    )
    return click.command()(named(options.namespace(options.cluster(command))))


@_command
def suspend(
    targets: tuple[str, ...],
    namespace: str | None,
    kubeconfig: Path | None,
    context: str | None,
) -> None:
    """Start no new pod of a resource; a running one ends first.

    What is reserved of a budget stays reserved, what is spent stays spent.
    """
    _set(targets, True, namespace, kubeconfig, context)


@_command
def resume(
    targets: tuple[str, ...],
    namespace: str | None,
    kubeconfig: Path | None,
    context: str | None,
) -> None:
    """Let a suspended resource go on where it stopped."""
    _set(targets, False, namespace, kubeconfig, context)


def _set(
    targets: tuple[str, ...],
    suspended: bool,
    namespace: str | None,
    kubeconfig: Path | None,
    context: str | None,
) -> None:
    named = wanted(targets)
    for each in named:
        if each.kind.scope == "Cluster":
            raise click.UsageError(
                f"a {each.kind.kind} runs nothing that could be suspended; suspend what charges it"
            )
        if not each.names:
            raise click.UsageError(f"say which {each.kind.kind}: KIND NAME")
    connection = Connection(kubeconfig, context)
    place = namespace or connection.namespace
    changed = False
    for each in named:
        for name in each.names:
            changed |= _one(connection, each.kind, place, name, suspended)
    if changed:
        click.echo(_GIT, err=True)


def _one(
    connection: Connection, kind: Resource, namespace: str, name: str, suspended: bool
) -> bool:
    """Whether that changed anything."""
    raw = connection.read(kind, namespace, name)
    label = f"{kind.kind} {namespace}/{name}"
    if bool(raw["spec"].get("suspend")) == suspended:
        click.echo(f"{label} is {'' if suspended else 'not '}suspended already.")
        return False
    after = connection.patch(kind, namespace, name, {"spec": {"suspend": suspended}})
    click.echo(f"{label} {_said(suspended, after)}")
    return True


def _said(suspended: bool, raw: dict[str, object]) -> str:
    if not suspended:
        return "goes on where it stopped."
    status = raw.get("status")
    stages = status.get("stages") or () if isinstance(status, dict) else ()
    running = [each["name"] for each in stages if each["state"] in ("Running", "Pending")]
    if running:
        return (
            f"is suspended: the pod of stage {running[0]} ends first, then none starts until "
            "it is resumed. Its reservations stay."
        )
    return "is suspended: no pod starts until it is resumed. Its reservations stay."
