"""A receipt says what was signed, or it is refused with the reason."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from palimpsest.receipts import ReceiptInvalid
from palimpsest.receipts.envelope import MAX_BYTES, sign, verify
from palimpsest.receipts.statement import Statement
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey
from unit.receipts.ground import paid, signer


@pytest.fixture
def key(tmp_path: Path) -> CryptoSigner:
    return signer(tmp_path / "keys")


@pytest.fixture
def statement(tmp_path: Path) -> Statement:
    return paid(tmp_path / "store").statement()


def test_what_is_signed_is_what_is_read(key: CryptoSigner, statement: Statement) -> None:
    data = sign(statement, key)
    assert verify(data, [key.public_key]) == statement
    document = json.loads(data)
    assert document["payloadType"] == "application/vnd.in-toto+json"
    assert [each["keyid"] for each in document["signatures"]] == [key.public_key.keyid]
    assert sign(statement, key) == data


def test_every_tampered_byte_is_refused(key: CryptoSigner, statement: Statement) -> None:
    data = sign(statement, key)
    for place in range(len(data)):
        for other in (data[place] ^ 1, data[place] ^ 0x20, ord(" ")):
            if other == data[place]:
                continue
            tampered = data[:place] + bytes([other]) + data[place + 1 :]
            with pytest.raises(ReceiptInvalid):
                verify(tampered, [key.public_key])


def test_every_missing_or_added_byte_is_refused(key: CryptoSigner, statement: Statement) -> None:
    data = sign(statement, key)
    for place in range(len(data)):
        for tampered in (data[:place], data[:place] + data[place + 1 :]):
            with pytest.raises(ReceiptInvalid):
                verify(tampered, [key.public_key])
    for more in (b" ", b"\n", b"{}", data):
        with pytest.raises(ReceiptInvalid):
            verify(data + more, [key.public_key])


def test_another_key_is_refused_by_name(
    key: CryptoSigner, statement: Statement, tmp_path: Path
) -> None:
    data = sign(statement, key)
    other = signer(tmp_path / "other").public_key
    with pytest.raises(ReceiptInvalid, match=f"{key.public_key.keyid}.*none of the 1 public keys"):
        verify(data, [other])
    with pytest.raises(ReceiptInvalid, match="none of the 0 public keys"):
        verify(data, [])


def test_a_signature_under_a_borrowed_key_id_is_refused(
    key: CryptoSigner, statement: Statement, tmp_path: Path
) -> None:
    forger = signer(tmp_path / "other")
    borrowed = SSlibKey(
        key.public_key.keyid,
        forger.public_key.keytype,
        forger.public_key.scheme,
        forger.public_key.keyval,
    )
    private = load_pem_private_key(forger.private_bytes, None)
    assert isinstance(private, Ed25519PrivateKey)
    data = sign(statement, CryptoSigner(private, borrowed))
    with pytest.raises(ReceiptInvalid, match="the signature is not that of key"):
        verify(data, [key.public_key])


def test_a_signed_statement_of_another_shape_is_refused(
    key: CryptoSigner, statement: Statement
) -> None:
    document = statement.model_dump(mode="json", by_alias=True)
    limit = {**document["predicate"]["budget"], "limit": {"epsilon": "NaN", "delta": "1e-5"}}
    wrong = {
        "predicate.records_seen": {
            **document,
            "predicate": {**document["predicate"], "records_seen": 1},
        },
        "predicateType": {**document, "predicateType": "https://slsa.dev/provenance/v1"},
        "_type": {**document, "_type": "https://in-toto.io/Statement/v0.1"},
        "predicate.budget.limit.epsilon": {
            **document,
            "predicate": {**document["predicate"], "budget": limit},
        },
        "subject": {**document, "subject": []},
    }
    for field, content in wrong.items():
        payload = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
        with pytest.raises(ReceiptInvalid, match=field):
            verify(_signed(payload, key), [key.public_key])
    loose = json.dumps(document, indent=1).encode()
    with pytest.raises(ReceiptInvalid, match="canonical"):
        verify(_signed(loose, key), [key.public_key])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"null",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 20_000,
        b"1" * 10_000,
        b"NaN",
        b'{"payload":"","payloadType":"application/vnd.in-toto+json","signatures":[]}',
        b'{"payload":1e400,"payloadType":"application/vnd.in-toto+json","signatures":[{}]}',
        b" " * (MAX_BYTES + 1),
    ],
    ids=lambda data: repr(data[:12]),
)
def test_what_is_no_envelope_is_refused(data: bytes, key: CryptoSigner) -> None:
    with pytest.raises(ReceiptInvalid) as refused:
        verify(data, [key.public_key])
    assert 0 < len(str(refused.value)) < 500


def _signed(payload: bytes, key: CryptoSigner) -> bytes:
    envelope = Envelope(payload, "application/vnd.in-toto+json", {})
    envelope.sign(key)
    return json.dumps(envelope.to_dict(), sort_keys=True, separators=(",", ":")).encode()
