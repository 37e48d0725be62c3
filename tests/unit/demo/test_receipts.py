"""The checker opens what the product signs, and nothing else."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from demo.checker import journal, receipts
from demo.checker.artifacts import Artifact
from demo.checker.bucket import CheckError, sha256
from palimpsest.receipts import keys
from unit.audit.ground import Paid, paid
from unit.receipts.ground import signer


class Shelf:
    """As much of a bucket as receipts are read through."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def get(self, uri: str) -> bytes:
        return self.objects[uri]


@dataclass
class Signed:
    """A release with its receipt, and what it is checked against."""

    made: Paid
    shelf: Shelf
    pems: dict[str, str]
    replay: journal.Replay

    def audit(self) -> list[dict[str, Any]]:
        prefix, manifest = self.made.prefix, self.made.manifest
        charges = {
            name: {"state": charge.state, "cost": charge.cost}
            for name, charge in self.replay.charges.items()
        }
        return receipts.audit(
            self.shelf,  # type: ignore[arg-type]  # a shelf reads as a bucket does
            [Artifact(prefix, sha256(manifest), json.loads(manifest))],
            receipts.public_keys(self.pems),
            charges,
            self.replay.digests,
        )

    @property
    def uri(self) -> str:
        return f"{self.made.prefix}receipt.json"


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    made, key = paid(), signer(tmp_path / "keys")
    release = made.release(key)
    assert release.receipt is not None
    private = load_pem_private_key((tmp_path / "keys" / keys.SIGNING).read_bytes(), None)
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    shelf = Shelf()
    shelf.objects[f"{made.prefix}receipt.json"] = release.receipt
    replay = journal.replay_entries([made.objects[name] for name in sorted(made.objects)])
    return Signed(made, shelf, {"one.pub": pem.decode()}, replay)


def test_a_receipt_of_the_product_holds(signed: Signed) -> None:
    (told,) = signed.audit()
    assert told["stage"] == "train"
    assert "differentially private" in told["guarantee"]
    assert told["journalHead"] == signed.replay.entries - 1


def test_another_payload_under_the_signature_is_seen(signed: Signed) -> None:
    envelope = json.loads(signed.shelf.objects[signed.uri])
    payload = base64.b64decode(envelope["payload"])
    forged = payload.replace(b'"epsilon":"8"', b'"epsilon":"1"')
    assert forged != payload
    envelope["payload"] = base64.b64encode(forged).decode()
    signed.shelf.objects[signed.uri] = json.dumps(envelope).encode()
    with pytest.raises(CheckError, match="signature is wrong"):
        signed.audit()


def test_a_key_that_nobody_listed_is_seen(signed: Signed) -> None:
    signed.pems.clear()
    with pytest.raises(CheckError, match="signed by nobody known"):
        signed.audit()


def test_another_manifest_is_seen(signed: Signed) -> None:
    changed = signed.made.manifest.replace(b'"attempt":"1-x"', b'"attempt":"2-x"')
    assert changed != signed.made.manifest
    signed.made = Paid(
        signed.made.objects, signed.made.state, signed.made.charge, changed, signed.made.prefix
    )
    with pytest.raises(CheckError, match="other digests"):
        signed.audit()


def test_a_journal_that_was_cut_behind_it_is_seen(signed: Signed) -> None:
    signed.replay.digests.pop()
    with pytest.raises(CheckError, match="does not hold entry"):
        signed.audit()


def test_a_charge_that_is_not_settled_is_seen(signed: Signed) -> None:
    signed.replay.charges[signed.made.charge].state = "started"
    with pytest.raises(CheckError, match="not as the journal has it"):
        signed.audit()
