"""What the commands say where a cluster does not answer as hoped. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher

import click

_MOST_NAMES = 20


class CouldNotCheckError(click.ClickException):
    """Nothing can be said; exit code 2."""

    exit_code = 2


class NotThereError(CouldNotCheckError):
    """There is no such resource, or the cluster does not know its kind."""


class ForbiddenError(CouldNotCheckError):
    """The caller's rights do not allow it."""


class GoneError(CouldNotCheckError):
    """The resourceVersion is too old for a watch: list again."""


@dataclass(frozen=True)
class Request:
    """What the API server is asked, as its RBAC puts it; without a name all of a namespace."""

    verb: str
    resource: str
    namespace: str = ""
    name: str = ""

    @property
    def place(self) -> str:
        """Where, for a sentence; empty for the whole cluster."""
        return f" in namespace {self.namespace}" if self.namespace else ""


def refusal(request: Request, status: int, reason: str) -> CouldNotCheckError:
    """The error for an answer of the API server that is none of success."""
    what = f"{request.verb} {request.resource}"
    if status == 401:
        return ForbiddenError("the API server does not take your credentials: renew them")
    if status == 403:
        return ForbiddenError(
            f"you may not {what}{request.place}: ask for a role with the verb {request.verb} on "
            f"{request.resource}, or see what you may: kubectl auth can-i --list"
        )
    if status == 404 and not request.name:
        return NotThereError(
            f"the cluster knows no {request.resource}: is Palimpsest installed there, and is this "
            "the right --context?"
        )
    if status == 404:
        return NotThereError(f"no {request.resource} {request.name}{request.place}")
    if status == 410:
        return GoneError(f"cannot {what}: {reason}")
    named = f" {request.name}" if request.name else ""
    return CouldNotCheckError(f"cannot {what}{named}{request.place}: {status} {reason}")


def no_answer(request: Request, why: str) -> CouldNotCheckError:
    """The error for an API server that did not answer."""
    return CouldNotCheckError(
        f"cannot {request.verb} {request.resource}: no answer from the API: "
        f"{' '.join(why.split())[:200]}; see --context, and whether kubectl cluster-info answers"
    )


def missing(kind: str, names: Iterable[str], known: Iterable[str], place: str = "") -> str:
    """That there are no such resources, and which there are, the nearest first."""
    wanted = list(names)
    there = nearest(wanted[0], known) if wanted else sorted(known)
    return (
        f"no {kind} {', '.join(wanted)}{place}; there is: "
        f"{', '.join(there[:_MOST_NAMES]) or 'none'}"
    )


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """All that are known, the likest first."""
    return sorted(known, key=lambda one: (-SequenceMatcher(None, name, one).ratio(), one))
