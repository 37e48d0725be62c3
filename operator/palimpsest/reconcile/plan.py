"""What a reconcile decides: the adapter executes it in the order of Plan's fields, status last."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from palimpsest.api.common import Storage
from palimpsest.api.task import Subject
from palimpsest.ledger.state import Head
from palimpsest.privacy.mechanisms import Mechanism

FINALIZER = "palimpsest.dev/charges"


@dataclass(frozen=True)
class Open:
    """Open the journal with the budget's limit, or tighten it to that."""


@dataclass(frozen=True)
class Reserve:
    """Reserve a charge's worst case."""

    charge: str
    subject: Subject
    task: str
    mechanism: Mechanism
    restarts: int
    block_steps: int


@dataclass(frozen=True)
class Commit:
    """Settle a charge."""

    charge: str
    basis: Literal["completed", "disrupted", "full"]


@dataclass(frozen=True)
class Release:
    """Give a reservation back; the journal refuses if it was started."""

    charge: str


LedgerAction = Open | Reserve | Commit | Release


@dataclass(frozen=True)
class SignReceipt:
    """Sign for a release whose charge is committed, and write that beside its manifest, once."""

    charge: str
    manifest_uri: str
    manifest: bytes
    storage: Storage


@dataclass(frozen=True)
class Relay:
    """Carry one public file from the tenant's store to the releases, where custody can read it."""

    source: Storage
    source_uri: str
    digest: str
    target: Storage
    target_uri: str


@dataclass(frozen=True)
class CreateJob:
    """POST a Job; one that exists is left alone."""

    manifest: dict[str, Any]


@dataclass(frozen=True)
class DeleteJob:
    """Delete a Job and its pods."""

    namespace: str
    name: str


@dataclass(frozen=True)
class CreateService:
    """POST the Service by which a Job's pods find one another."""

    manifest: Mapping[str, Any]


ChildAction = CreateJob | DeleteJob | CreateService


@dataclass(frozen=True)
class Plan:
    """One reconcile's decisions.

    `requeue` is in seconds (None: wait for an event). `finalizer` says whether ours must be on the
    resource after this pass. `witnesses` are entries that sound signatures name and the journal
    does not hold: nothing more may be charged to it.
    """

    status: dict[str, Any] | None
    ledger: tuple[LedgerAction, ...] = ()
    receipts: tuple[SignReceipt, ...] = ()
    witnesses: tuple[Head, ...] = ()
    relays: tuple[Relay, ...] = ()
    children: tuple[ChildAction, ...] = ()
    finalizer: bool = True
    requeue: float | None = None
