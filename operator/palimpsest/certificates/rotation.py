"""What is to be done next so that no call ever meets a certificate it does not trust. Pure.

Three places are read and written, one a step: the CA's Secret (the *authority*, which signs), the
served Secret (the *leaf*, with the CAs on *record* beside it) and the webhook's caBundle (what is
*published*). Each step is decided from what these hold: a crash between two costs nothing.

The waits alone are remembered. They begin with what this process itself has seen: after a restart
they begin anew, which is late and never early.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Authority:
    """A CA's certificate, PEM in one spelling, so that equal texts are equal certificates."""

    pem: str
    issued: datetime
    expires: datetime


@dataclass(frozen=True)
class Leaf:
    """A serving certificate with its key; `issuer` is the CA that signed it, if that is known."""

    issuer: Authority | None
    names: frozenset[str]
    issued: datetime
    expires: datetime


@dataclass(frozen=True)
class Observed:
    """What the three places hold; whatever is missing or damaged is None or left out."""

    authority: Authority | None
    leaf: Leaf | None
    recorded: tuple[Authority, ...]
    published: tuple[Authority, ...] | None  # None: there is no webhook to publish to


@dataclass(frozen=True)
class Policy:
    """How long things last and how long is waited."""

    names: frozenset[str]
    authority_life: timedelta
    leaf_life: timedelta
    renew_after: float  # part of a life
    trust_wait: timedelta
    retire_wait: timedelta

    def due(self, issued: datetime, expires: datetime, life: timedelta) -> datetime:
        """When a certificate is renewed; a `life` that was shortened since counts."""
        return issued + self.renew_after * min(expires - issued, life)


@dataclass(frozen=True)
class Since:
    """Something holds of an authority, unbroken, from a moment of the process's clock."""

    authority: Authority
    seconds: float


@dataclass(frozen=True)
class Memory:
    """What this process has watched; empty after a restart."""

    trusted: Since | None = None  # the authority is published
    settled: Since | None = None  # the leaf is the authority's


@dataclass(frozen=True)
class MakeAuthority:
    """Replace the CA in its Secret."""


@dataclass(frozen=True)
class Publish:
    """Replace the caBundle."""

    bundle: tuple[Authority, ...]


@dataclass(frozen=True)
class Issue:
    """Replace the leaf by one of the authority, with the bundle beside it."""

    bundle: tuple[Authority, ...]


@dataclass(frozen=True)
class Record:
    """Replace the bundle beside the leaf."""

    bundle: tuple[Authority, ...]


Action = MakeAuthority | Publish | Issue | Record


def watch(memory: Memory, observed: Observed, clock: float) -> Memory:
    """The memory after another look."""
    authority, leaf = observed.authority, observed.leaf
    trusted = authority is not None and authority in (observed.published or ())
    settled = authority is not None and leaf is not None and leaf.issuer == authority
    return replace(
        memory,
        trusted=_since(memory.trusted, authority if trusted else None, clock),
        settled=_since(memory.settled, authority if settled else None, clock),
    )


def _since(before: Since | None, authority: Authority | None, clock: float) -> Since | None:
    if authority is None:
        return None
    if before is not None and before.authority == authority:
        return before
    return Since(authority, clock)


def decide(
    observed: Observed, memory: Memory, policy: Policy, now: datetime, clock: float
) -> Action | None:
    """The next step, or None while there is nothing to do but wait.

    `memory` has watched `observed`; `now` is the time of day, `clock` never jumps.
    """
    authority = observed.authority
    if authority is None or now >= policy.due(
        authority.issued, authority.expires, policy.authority_life
    ):
        return MakeAuthority()
    bundle = _bundle(authority, observed, _passed(memory.settled, policy.retire_wait, clock), now)
    if observed.published is not None and set(observed.published) != set(bundle):
        return Publish(bundle)
    leaf = observed.leaf
    if not _fresh(leaf, authority, policy, now) and (
        _nothing_to_lose(observed, now) or _passed(memory.trusted, policy.trust_wait, clock)
    ):
        return Issue(bundle)
    # Without a leaf there is no Secret to write to that would be whole.
    if leaf is not None and set(observed.recorded) != set(bundle):
        return Record(bundle)
    return None


def _bundle(
    authority: Authority, observed: Observed, settled: bool, now: datetime
) -> tuple[Authority, ...]:
    """Whom to trust: the authority, and all others until nobody can show their leaves any more."""
    if settled:
        return (authority,)
    others = dict.fromkeys((*observed.recorded, *(observed.published or ())))
    return (authority, *(each for each in others if each != authority and each.expires > now))


def _fresh(leaf: Leaf | None, authority: Authority, policy: Policy, now: datetime) -> bool:
    return (
        leaf is not None
        and leaf.issuer == authority
        and policy.names <= leaf.names
        and now < policy.due(leaf.issued, leaf.expires, policy.leaf_life)
    )


def _nothing_to_lose(observed: Observed, now: datetime) -> bool:
    """Whether no server can show a trusted leaf that a hasty new one would displace."""
    if observed.published is None:
        return True
    leaf = observed.leaf
    if leaf is None:
        # Servers keep what they loaded, but only leaves of the one CA that everybody trusts.
        return set(observed.published) <= {observed.authority}
    # A renewal by the same CA takes no trust that is not there.
    return leaf.issuer in (None, observed.authority) or leaf.expires <= now


def _passed(since: Since | None, wait: timedelta, clock: float) -> bool:
    return since is not None and clock - since.seconds >= wait.total_seconds()


def pems(bundle: Iterable[Authority]) -> str:
    """A bundle as one text."""
    return "".join(each.pem for each in bundle)
