"""What lies where a release's receipt belongs, and what follows from it. Pure."""

from dataclasses import dataclass

from palimpsest.api.common import ArtifactRef, Storage
from palimpsest.ledger.entries import digest
from palimpsest.ledger.nesting import entry
from palimpsest.ledger.state import Head, LedgerState
from palimpsest.receipts import ReceiptInvalid
from palimpsest.receipts.build import Released, charge, read_manifest
from palimpsest.receipts.envelope import verify
from palimpsest.receipts.place import receipt_uri
from palimpsest.receipts.statement import Statement

from .conditions import Verdict
from .observed import Objects, ReceiptKeys, StoreTrouble
from .plan import SignReceipt

UNSOUND = "ReceiptInvalid"
BEHIND = "JournalBehindReceipt"


@dataclass(frozen=True)
class Place:
    """A release as its receipt is looked for: its manifest, its charge, the budget's stores."""

    manifest: str
    charge: str
    releases: Storage
    journal: Storage

    @property
    def uri(self) -> str:
        """The receipt's URI."""
        return receipt_uri(self.manifest)


@dataclass(frozen=True)
class Held:
    """Why nothing may be built on the release; `witness` is what its journal should hold."""

    verdict: Verdict
    witness: Head | None = None


def standing(
    place: Place, ledger: LedgerState, keys: ReceiptKeys, objects: Objects
) -> Statement | Held | None:
    """The sound receipt, None where there is none yet, or why nothing may be built on it.

    A receipt that the journal does not bear out means that one of the two was tampered with. Raises
    NotObservedError while a store was not asked.
    """
    found = objects.read(place.releases, place.uri)
    if isinstance(found, StoreTrouble):
        return Held(Verdict("Reconciling", found.reason, found.message))
    if keys.trouble:
        return Held(Verdict("Reconciling", "SigningKeyUnusable", keys.trouble))
    if found is None:
        return None
    try:
        statement = verify(found, keys.public)
        _same(place, statement)
    except ReceiptInvalid as error:
        return Held(Verdict("Stalled", UNSOUND, f"{place.uri}: {error}."))
    named = statement.predicate.journal_head
    held = _held(place, ledger, Head(named.sequence, named.digest), objects)
    if held is not None:
        return held
    try:
        _borne_out(ledger, statement)
    except ReceiptInvalid as error:
        return Held(Verdict("Stalled", BEHIND, f"{place.uri}: {error}."))
    return statement


def changed(place: Place, statement: Statement, artifact: ArtifactRef) -> Verdict | None:
    """Why the artifact is not the one that the receipt was signed for, if it is not."""
    if statement.predicate.release.manifest.digest == artifact.digest:
        return None
    message = f"{place.manifest} is not the manifest that its receipt was signed for."
    return Verdict("Stalled", UNSOUND, message)


def signing(place: Place, objects: Objects) -> SignReceipt | Verdict:
    """The receipt to sign, or why the release is not one that can be signed for."""
    manifest = objects.read(place.releases, place.manifest)
    if not isinstance(manifest, bytes):
        message = f"{place.manifest} cannot be read."
        return Verdict("Reconciling", "ArtifactMissing", message)
    try:
        read_manifest(Released(place.manifest, manifest), [place.charge])
    except ReceiptInvalid as error:
        return Verdict("Stalled", "ReleaseInvalid", f"{error}.")
    return SignReceipt(
        charge=place.charge,
        manifest_uri=place.manifest,
        manifest=manifest,
        storage=place.releases,
    )


def _same(place: Place, statement: Statement) -> None:
    predicate = statement.predicate
    told = (predicate.release.manifest.uri, [each.id for each in predicate.charges])
    if told != (place.manifest, [place.charge]):
        raise ReceiptInvalid("it speaks of another release")


def _held(place: Place, ledger: LedgerState, head: Head, objects: Objects) -> Held | None:
    """Why the journal does not hold the entry that was its last when the receipt was signed."""
    message = (
        f"{place.uri} was signed when the journal ended with entry {head.sequence}, which the "
        "journal no longer holds."
    )
    gone = Held(Verdict("Stalled", BEHIND, message), head)
    if ledger.head is None or ledger.data is None or head.sequence > ledger.head.sequence:
        return gone
    if head.sequence == ledger.head.sequence:
        there = ledger.head.digest
    else:
        data = objects.read(place.journal, entry(ledger.data.uri, head.sequence))
        if isinstance(data, StoreTrouble):
            return Held(Verdict("Reconciling", data.reason, data.message))
        there = digest(data) if data is not None else ""
    return None if there == head.digest else gone


def _borne_out(ledger: LedgerState, statement: Statement) -> None:
    """The charges as the journal has them; a share may have grown since, as the limit went down."""
    for told in statement.predicate.charges:
        if charge(ledger, told.id).model_copy(update={"share": told.share}) != told:
            raise ReceiptInvalid(f"the journal has other figures for charge {told.id}")
