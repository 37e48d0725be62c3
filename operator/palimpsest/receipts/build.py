"""From a journal's state to the statement about one release. Pure: whoever replays the journal up
to the head that a receipt names, and gives its figures, time and version, gets the same bytes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal

from pydantic import ValidationError

from palimpsest.api.manifest import MANIFEST, Manifest
from palimpsest.api.task import sha256_digest
from palimpsest.ledger.entries import HeadRef
from palimpsest.ledger.state import LedgerState
from palimpsest.receipts.errors import ReceiptInvalid
from palimpsest.receipts.statement import (
    Artifact,
    Budget,
    Charge,
    DigestSet,
    Gate,
    Limit,
    Operator,
    Predicate,
    Release,
    ResourceDescriptor,
    Spent,
    Statement,
    named_field,
)

STEP = Decimal("0.0001")

ATTESTATIONS: tuple[str, ...] = (
    "The data at the journal's URI are the single source of these records: no other budget's data "
    "repeat them.",
    "The declared number of records and the text field are the custodian's word; they are public "
    "and were not checked aloud.",
    "A privacy unit is one record, and every user contributes at most one.",
    "Neither the journal nor what anchors it (statuses, receipts, an object lock) was rolled back "
    "together with it.",
)


@dataclass(frozen=True)
class Released:
    """A published artifact: its manifest's URI and its bytes."""

    uri: str
    manifest: bytes


def statement(
    ledger: LedgerState,
    charges: Sequence[str],
    released: Released,
    budget: str,
    spent: Spent,
    now: datetime,
    version: str,
) -> Statement:
    """What may be said of the release that the charges paid for.

    `budget` is the PrivacyBudget's name, `now` in UTC. Raises ReceiptInvalid where the journal or
    the manifest does not bear it out.
    """
    if ledger.head is None or ledger.data is None:
        raise ReceiptInvalid("the journal is not open")
    manifest = read_manifest(released, charges)
    paid = [charge(ledger, identity) for identity in charges]
    owner = manifest.subject
    for identity in charges:
        known = ledger.charges[identity]
        named = (known.subject.kind, known.subject.namespace, known.subject.name)
        if named != (owner.kind, owner.namespace, owner.name):
            raise ReceiptInvalid(
                f"{released.uri}: made for another resource than charge {identity}"
            )
        if known.task_digest != manifest.task:
            raise ReceiptInvalid(f"{released.uri}: made by another task than charge {identity}'s")
    try:
        return Statement(
            subject=subjects(released, manifest),
            predicate=Predicate(
                budget=Budget(
                    name=budget,
                    journal=ledger.data.uri,
                    limit=Limit(epsilon=ledger.epsilon, delta=ledger.delta),
                    gate=Gate(kind="renyi-filter", order=ledger.order),
                    privacy_unit=ledger.data.privacyUnit,
                    records=ledger.data.records,
                    text_field=ledger.data.textField,
                ),
                release=Release(
                    kind=owner.kind,
                    namespace=owner.namespace,
                    name=owner.name,
                    manifest=Artifact(uri=released.uri, digest=sha256_digest(released.manifest)),
                ),
                charges=paid,
                guarantee=guarantee(budget, ledger),
                spent=spent,
                journal_head=HeadRef(sequence=ledger.head.sequence, digest=ledger.head.digest),
                attestations=list(ATTESTATIONS),
                operator=Operator(version=version),
                time=now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            ),
        )
    except ValidationError as error:
        raise ReceiptInvalid(named_field(error, "statement")) from error


def charge(ledger: LedgerState, identity: str) -> Charge:
    """A committed charge as a receipt shows it. Raises ReceiptInvalid if it is not committed."""
    known = ledger.charges.get(identity)
    if (
        known is None
        or known.status != "committed"
        or known.basis is None
        or known.started is None
        or known.settled is None
    ):
        raise ReceiptInvalid(f"charge {identity} is not committed in the journal")
    share = Decimal(known.cost) / Decimal(ledger.limit_units)
    return Charge(
        id=identity,
        mechanism=known.mechanism,
        restarts=known.restarts,
        block_steps=known.block_steps,
        basis=known.basis,
        cost=known.cost,
        share=str(share.quantize(STEP, rounding=ROUND_CEILING)),
        start_sequence=known.started,
        commit_sequence=known.settled,
    )


def guarantee(budget: str, ledger: LedgerState) -> str:
    """The sentence that holds for whatever was and will be released from the budget."""
    return (
        f"Everything ever released from PrivacyBudget {budget} is (epsilon {ledger.epsilon}, "
        f"delta {ledger.delta})-differentially private with respect to adding or removing one "
        "record."
    )


def read_manifest(released: Released, charges: Sequence[str]) -> Manifest:
    """The manifest. Raises ReceiptInvalid if it is none, or names other charges."""
    try:
        manifest = Manifest.model_validate(json.loads(released.manifest))
    except (ValueError, RecursionError, ValidationError) as error:
        raise ReceiptInvalid(f"{released.uri}: not a manifest") from error
    if [manifest.charge] != list(charges):
        raise ReceiptInvalid(f"{released.uri}: paid for by another charge")
    return manifest


def subjects(released: Released, manifest: Manifest) -> list[ResourceDescriptor]:
    """The manifest, then every file it lists."""
    prefix = released.uri.removesuffix(MANIFEST)
    return [
        _descriptor(released.uri, sha256_digest(released.manifest)),
        *(_descriptor(prefix + file.path, file.digest) for file in manifest.files),
    ]


def _descriptor(name: str, digest: str) -> ResourceDescriptor:
    return ResourceDescriptor(name=name, digest=DigestSet(sha256=digest.removeprefix("sha256:")))
