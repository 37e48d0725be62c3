"""What a shell may complete from the cluster: quick, and silent where there is no answer.

kubectl is asked: it answers before Python has imported a client of Kubernetes.
"""

import subprocess
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem

from palimpsest.api.crd import RESOURCES

from .kinds import by_spelling, spellings

_SECONDS = 3
_MOST = 200


def contexts(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Of the kubeconfig."""
    return _starting(_kubectl(ctx, "config", "get-contexts", "-o", "name"), incomplete)


def namespaces(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Of the cluster."""
    return _starting(_names(ctx, "namespaces"), incomplete)


def names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Of the resources of the kind that stands before."""
    return _of_kind(ctx, str(ctx.params.get("kind") or ""), incomplete)


def budgets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """PrivacyBudgets."""
    return _of_kind(ctx, "pb", incomplete)


def targets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """`[KIND [NAME]... | KIND/NAME...]`: kinds, then names."""
    before = [str(each) for each in ctx.params.get(param.name or "") or ()]
    kind, separator, start = incomplete.partition("/")
    if separator:
        found = _of_kind(ctx, kind, start)
        return [CompletionItem(f"{kind}/{each.value}") for each in found]
    if before and "/" not in before[0]:
        return _of_kind(ctx, before[0], incomplete)
    return [
        CompletionItem(spelling, help=kind.kind)
        for kind in RESOURCES
        for spelling in spellings(kind)
        if spelling.startswith(incomplete.lower()) and spelling != kind.plural
    ]


def _of_kind(ctx: click.Context, kind: str, incomplete: str) -> list[CompletionItem]:
    found = by_spelling(RESOURCES).get(kind.lower())
    if found is None:
        return []
    return _starting(_names(ctx, f"{found.plural}.palimpsest.dev"), incomplete)


def _names(ctx: click.Context, resource: str) -> list[str]:
    place = ctx.params.get("namespace")
    where = [f"--namespace={place}"] if place and resource != "namespaces" else []
    listed = _kubectl(ctx, "get", resource, *where, "-o", "name", f"--request-timeout={_SECONDS}s")
    return [each.rpartition("/")[2] for each in listed]


def _kubectl(ctx: click.Context, *arguments: str) -> Sequence[str]:
    """The lines that kubectl writes; none where it does not end well, and soon."""
    chosen = [
        f"--{option}={ctx.params[option]}"
        for option in ("kubeconfig", "context")
        if ctx.params.get(option)
    ]
    try:
        done = subprocess.run(
            ["kubectl", *chosen, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=_SECONDS,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines()


def _starting(found: Sequence[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(each) for each in found if each.startswith(incomplete)][:_MOST]
