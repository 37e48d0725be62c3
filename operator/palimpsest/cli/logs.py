"""`palimpsest logs`: what the stages outside custody say, and why the others say nothing."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from palimpsest.api import GROUP
from palimpsest.api.budget import PrivacyBudget
from palimpsest.api.crd import RESOURCES
from palimpsest.api.task import PRIVATE_STAGES

from . import completing, options
from .connection import Connection, Json
from .errors import CouldNotCheckError, NotThereError, missing
from .kinds import Wanted, wanted
from .standing import INDEX_LABEL
from .tables import clean

_STARTING = 1.0


@click.command(
    epilog="Example: kubectl palimpsest logs synds/questions --stage annotate -f (docs/cli.md)"
)
@click.argument(
    "targets",
    nargs=-1,
    required=True,
    metavar="NAME | KIND NAME | KIND/NAME",
    shell_complete=completing.targets,
)
@click.option("--stage", metavar="NAME", help="Of this stage alone.")
@click.option("-f", "--follow", is_flag=True, help="The newest stage's, until its pods end.")
@click.option("--tail", type=click.IntRange(0), help="The last lines of each pod.")
@options.namespace
@options.cluster
def logs(
    targets: tuple[str, ...],
    stage: str | None,
    follow: bool,
    tail: int | None,
    namespace: str | None,
    kubeconfig: Path | None,
    context: str | None,
) -> None:
    """Show the logs of a resource's stages, the newest attempt first.

    The stages train and histogram read private records and write no logs; of those the place of
    the custodian's report is told.
    """
    connection = Connection(kubeconfig, context)
    raw = _find(connection, namespace or connection.namespace, targets, stage)
    stages = [each["name"] for each in (raw.get("status") or {}).get("stages") or ()]
    if stage is not None and stage not in stages:
        there = ", ".join(stages) or "none yet"
        raise click.BadParameter(
            f"{raw['kind']} {raw['metadata']['name']} has no stage {stage[:40]!r}; there is: "
            f"{there}",
            param_hint="--stage",
        )
    chosen = [stage] if stage else stages
    private = [each for each in chosen if each in PRIVATE_STAGES]
    for each in private:
        click.echo(silence(each, raw, _data(connection, raw)), err=True)
    if private and private == chosen:
        return
    pods = _pods(connection, raw, stage)
    if not pods:
        click.echo("There is no pod now: none was made yet, or its time is over.", err=True)
    elif follow:
        _follow(connection, _last(pods), tail)
    else:
        _print(connection, pods, tail)


def silence(stage: str, raw: Json, data: str | None) -> str:
    """Why a private stage has no logs, and where its custodian reads what happened."""
    from palimpsest.ledger.nesting import location  # noqa: PLC0415 - slow

    found = next(
        each for each in (raw.get("status") or {}).get("stages") or () if each["name"] == stage
    )
    charge = (found.get("charge") or {}).get("id", "<charge>")
    root = location(data).removesuffix("ledger/") if data else "s3://<bucket>/.palimpsest/<prefix>/"
    return (
        f"The {stage} stage reads private records in the custodian's namespace: its logs are "
        "silent by design. What happened in an attempt is told to the custodian alone, in "
        f"{root}reports/{charge}/<attempt>.json"
    )


def _find(
    connection: Connection, namespace: str, targets: Sequence[str], stage: str | None
) -> Json:
    """The one resource that is meant."""
    if len(targets) > 1 or "/" in targets[0]:
        (first, *others) = wanted(targets)
        if others or len(first.names) != 1:
            raise click.UsageError("give one NAME, KIND NAME or KIND/NAME")
        return _read(connection, first, namespace)
    name = targets[0]
    found: list[Json] = []
    known: list[str] = []
    for kind in (each for each in RESOURCES if each.scope == "Namespaced"):
        items = connection.listed(kind, namespace)["items"]
        known += [each["metadata"]["name"] for each in items]
        found += [each for each in items if each["metadata"]["name"] == name]
    if not found:
        raise NotThereError(
            missing("resource", [name], dict.fromkeys(known), f" in namespace {namespace}")
        )
    speaking = [each for each in found if _has(each, stage)] or found
    if len(speaking) > 1:
        those = ", ".join(f"{each['kind'].lower()}/{name}" for each in speaking)
        raise click.UsageError(f"several are called {name}: say which of {those}")
    return speaking[0]


def _read(connection: Connection, one: Wanted, namespace: str) -> Json:
    if one.kind.scope == "Cluster":
        raise click.UsageError(f"a {one.kind.kind} runs nothing: it has no logs")
    return connection.read(one.kind, namespace, one.names[0])


def _has(raw: Json, stage: str | None) -> bool:
    """Whether it has this stage, or any that has logs."""
    names = [each["name"] for each in (raw.get("status") or {}).get("stages") or ()]
    return stage in names if stage else any(each not in PRIVATE_STAGES for each in names)


def _data(connection: Connection, raw: Json) -> str | None:
    """The private data's canonical URI, where the caller may know it."""
    from palimpsest.storage import canonical_prefix  # noqa: PLC0415 - slow

    spec, status = raw["spec"], raw.get("status") or {}
    name = (spec.get("budgetRef") or {}).get("name") or status.get("budget")
    if not name:
        return None
    try:
        budget = connection.read(PrivacyBudget, "", name)
        return canonical_prefix(budget["spec"]["dataset"]["uri"])
    except (CouldNotCheckError, ValueError):
        return None


def _pods(connection: Connection, raw: Json, stage: str | None) -> list[Any]:
    """The pods of stages outside custody, the newest first."""
    from palimpsest.reconcile.jobs import LABEL_KIND, LABEL_NAME, LABEL_STAGE  # noqa: PLC0415 - slow

    metadata = raw["metadata"]
    labels = {LABEL_KIND: raw["kind"], LABEL_NAME: metadata["name"]}
    labels |= {LABEL_STAGE: stage} if stage else {}
    pods = connection.pods(metadata["namespace"], labels)
    return sorted(pods, key=lambda pod: pod.metadata.creation_timestamp, reverse=True)


def _last(pods: Sequence[Any]) -> list[Any]:
    """Of the newest stage, the newest pod of every shard."""
    stage = _mark(pods[0], "stage")
    newest: dict[str, Any] = {}
    for pod in pods:
        if _mark(pod, "stage") == stage:
            newest.setdefault(pod.metadata.labels.get(INDEX_LABEL, ""), pod)
    return list(newest.values())


def _print(connection: Connection, pods: Sequence[Any], tail: int | None) -> None:
    for pod in pods:
        click.echo(
            f"==> {_mark(pod, 'stage')}, attempt {_mark(pod, 'attempt')}, pod {pod.metadata.name} "
            f"({pod.status.phase}) <==",
            err=True,
        )
        if _waits(pod):
            click.echo("It has not started.", err=True)
            continue
        for line in connection.log(pod.metadata.namespace, pod.metadata.name, tail).splitlines():
            click.echo(clean(line))


def _mark(pod: Any, name: str) -> str:
    return str(pod.metadata.labels.get(f"{GROUP}/{name}", ""))


def _waits(pod: Any) -> bool:
    return bool(pod.status.phase == "Pending")


def _follow(connection: Connection, pods: Sequence[Any], tail: int | None) -> None:
    """What they write, until all have ended. Raises CouldNotCheckError."""
    troubles: list[CouldNotCheckError] = []

    def tell(pod: Any) -> None:
        prefix = f"[{pod.metadata.name}] " if len(pods) > 1 else ""
        try:
            _start(connection, pod)
            for line in connection.log_lines(pod.metadata.namespace, pod.metadata.name, tail):
                click.echo(f"{prefix}{clean(line)}")
        except CouldNotCheckError as error:
            troubles.append(error)

    threads = [threading.Thread(target=tell, args=(pod,), daemon=True) for pod in pods]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if troubles:
        raise troubles[0]


def _start(connection: Connection, pod: Any) -> None:
    """Wait until a pod has started, or is gone."""
    told = False
    while _waits(pod):
        if not told:
            click.echo(f"Pod {pod.metadata.name} has not started yet.", err=True)
            told = True
        time.sleep(_STARTING)
        pod = connection.pod(pod.metadata.namespace, pod.metadata.name)
