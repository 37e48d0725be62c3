"""A receipt is believed only where keys, release and journal all bear it out."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from palimpsest.api.common import ArtifactRef, Storage, StorageAuth
from palimpsest.api.task import sha256_digest
from palimpsest.ledger import Journal, LedgerState
from palimpsest.ledger.nesting import entry
from palimpsest.receipts.envelope import sign
from palimpsest.receipts.statement import Statement
from palimpsest.reconcile.conditions import Verdict
from palimpsest.reconcile.observed import Look, Objects, ReceiptKeys, StoreTrouble
from palimpsest.reconcile.plan import SignReceipt
from palimpsest.reconcile.receipting import Held, Place, changed, signing, standing
from securesystemslib.signer import CryptoSigner
from unit.ledger.folder_store import HISTOGRAM, URI, FolderStore, subject, task
from unit.receipts.ground import MANIFEST, PREFIX, Paid, paid, signer

STORAGE = Storage(endpoint="http://store", auth=StorageAuth(secret_name="keys"))
RECEIPT = f"{PREFIX}receipt.json"


@dataclass
class Ground:
    """A paid release and the key that signed for it."""

    paid: Paid
    key: CryptoSigner
    folder: Path

    @property
    def place(self) -> Place:
        return Place(MANIFEST, self.paid.charge, STORAGE, STORAGE)

    @property
    def keys(self) -> ReceiptKeys:
        return ReceiptKeys(public=(self.key.public_key,))

    def objects(self, receipt: bytes | StoreTrouble | None) -> Objects:
        """The stores: a receipt, the manifest, the journal's entries."""
        store = FolderStore(self.folder)
        known: dict[Look, bytes | StoreTrouble | None] = {
            Look(STORAGE.endpoint, RECEIPT): receipt,
            Look(STORAGE.endpoint, MANIFEST): self.paid.released.manifest,
        }
        for number in range(20):
            path = store.path(entry(URI, number))
            known[Look(STORAGE.endpoint, entry(URI, number))] = (
                path.read_bytes() if path.exists() else None
            )
        return Objects(known)

    def receipt(self) -> bytes:
        return sign(self.paid.statement(), self.key)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(paid(tmp_path / "store"), signer(tmp_path / "keys"), tmp_path / "store")


def verdict(found: Statement | Held | Verdict | None) -> tuple[str, str, str]:
    if isinstance(found, Held):
        found = found.verdict
    assert isinstance(found, Verdict), found
    return found.state, found.reason, found.message


def test_a_sound_receipt_stands_however_far_the_journal_went_on(ground: Ground) -> None:
    objects = ground.objects(ground.receipt())
    expected = ground.paid.statement()
    assert standing(ground.place, ground.paid.ledger, ground.keys, objects) == expected
    ground.paid.journal.reserve(subject("later"), task(1), HISTOGRAM)
    later = ground.objects(sign(expected, ground.key))
    assert standing(ground.place, ground.paid.ledger, ground.keys, later) == expected


def test_a_lower_limit_leaves_old_receipts_standing(ground: Ground) -> None:
    receipt = ground.receipt()
    ledger = replace(ground.paid.ledger, limit_units=ground.paid.ledger.limit_units // 2)
    found = standing(ground.place, ledger, ground.keys, ground.objects(receipt))
    assert isinstance(found, Statement)


def test_no_receipt_is_no_finding(ground: Ground) -> None:
    objects = ground.objects(None)
    assert standing(ground.place, ground.paid.ledger, ground.keys, objects) is None
    assert signing(ground.place, objects) == SignReceipt(
        charge=ground.paid.charge,
        manifest_uri=MANIFEST,
        manifest=ground.paid.released.manifest,
        storage=STORAGE,
    )


def test_what_cannot_be_read_is_no_finding_either(ground: Ground) -> None:
    objects = ground.objects(StoreTrouble("StoreUnavailable", "no answer"))
    found = standing(ground.place, ground.paid.ledger, ground.keys, objects)
    assert verdict(found) == ("Reconciling", "StoreUnavailable", "no answer")


def test_without_a_usable_key_nothing_is_believed_or_signed(ground: Ground) -> None:
    trouble = ReceiptKeys(trouble="signing.pem: not an Ed25519 key.")
    for receipt in (None, ground.receipt()):
        found = standing(ground.place, ground.paid.ledger, trouble, ground.objects(receipt))
        assert verdict(found)[:2] == ("Reconciling", "SigningKeyUnusable")


def test_a_tampered_or_foreign_receipt_is_a_finding(ground: Ground, tmp_path: Path) -> None:
    sound = ground.receipt()
    stranger = signer(tmp_path / "stranger")
    for receipt, message in (
        (sound[:-1], "envelope"),
        (b"", "envelope"),
        (sign(ground.paid.statement(), stranger), "none of the 1 public keys"),
    ):
        found = standing(ground.place, ground.paid.ledger, ground.keys, ground.objects(receipt))
        state, reason, told = verdict(found)
        assert (state, reason) == ("Stalled", "ReceiptInvalid")
        assert RECEIPT in told
        assert message in told


def test_the_receipt_of_another_release_is_a_finding(ground: Ground) -> None:
    other = replace(ground.place, charge="sha256:" + "0" * 64)
    found = standing(other, ground.paid.ledger, ground.keys, ground.objects(ground.receipt()))
    assert verdict(found)[:2] == ("Stalled", "ReceiptInvalid")


def test_a_changed_manifest_is_a_finding(ground: Ground) -> None:
    statement = ground.paid.statement()
    same = ArtifactRef(uri=MANIFEST, digest=sha256_digest(ground.paid.released.manifest))
    assert changed(ground.place, statement, same) is None
    other = ArtifactRef(uri=MANIFEST, digest=sha256_digest(b"{}"))
    assert verdict(changed(ground.place, statement, other))[:2] == ("Stalled", "ReceiptInvalid")


def test_a_journal_that_lost_what_the_receipt_saw_is_a_finding(ground: Ground) -> None:
    receipt = ground.receipt()
    last = FolderStore(ground.folder).path(entry(URI, 6))
    last.unlink()
    for ledger in (Journal(FolderStore(ground.folder), URI).refresh(), LedgerState()):
        found = standing(ground.place, ledger, ground.keys, ground.objects(receipt))
        state, reason, message = verdict(found)
        assert (state, reason) == ("Stalled", "JournalBehindReceipt")
        assert "entry 6, which the journal no longer holds" in message
        assert isinstance(found, Held)
        assert found.witness == ground.paid.ledger.head
    # Written on from there: another entry 6, and later ones.
    forked = Journal(FolderStore(ground.folder), URI)
    forked.refresh()
    forked.commit(ground.paid.charge, "full")
    for more in range(2):
        found = standing(ground.place, forked.state, ground.keys, ground.objects(receipt))
        assert verdict(found)[:2] == ("Stalled", "JournalBehindReceipt")
        forked.reserve(subject("later"), task(more), HISTOGRAM)


def test_other_figures_for_the_charge_are_a_finding(ground: Ground) -> None:
    receipt = ground.receipt()
    known = ground.paid.ledger.charge(ground.paid.charge)
    for change in (
        replace(known, cost=known.cost - 1),
        replace(known, settled=5),
        replace(known, status="started", basis=None),
    ):
        ledger = replace(
            ground.paid.ledger, charges=ground.paid.ledger.charges.set(known.id, change)
        )
        found = standing(ground.place, ledger, ground.keys, ground.objects(receipt))
        assert verdict(found)[:2] == ("Stalled", "JournalBehindReceipt")


def test_a_manifest_of_another_charge_is_never_signed_for(ground: Ground) -> None:
    other = replace(ground.place, charge="sha256:" + "0" * 64)
    assert verdict_of_signing(other, ground) == ("Stalled", "ReleaseInvalid")


def verdict_of_signing(place: Place, ground: Ground) -> tuple[str, str]:
    found = signing(place, ground.objects(None))
    assert isinstance(found, Verdict)
    return found.state, found.reason
