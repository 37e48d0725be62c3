"""Keys as the mounted Secret has them; a rotation leaves old receipts valid."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from palimpsest.receipts import KeyUnusable, ReceiptInvalid
from palimpsest.receipts.envelope import sign, verify
from palimpsest.receipts.keys import load_signer, public_keys, public_pem
from unit.receipts.ground import paid, signer


def test_a_rotation_keeps_old_receipts_valid(tmp_path: Path) -> None:
    folder, statement = tmp_path / "keys", paid(tmp_path / "store").statement()
    first = signer(folder)
    old = sign(statement, first)
    second = signer(folder)
    with pytest.raises(ReceiptInvalid, match=first.public_key.keyid):
        verify(old, public_keys(folder))
    (folder / "2026-01.pub").write_text(public_pem(first.public_key))
    assert verify(old, public_keys(folder)) == statement
    assert verify(sign(statement, second), public_keys(folder)) == statement
    assert load_signer(folder).public_key.keyid == second.public_key.keyid


def test_public_keys_alone_suffice_to_verify(tmp_path: Path) -> None:
    private, public = tmp_path / "keys", tmp_path / "public"
    public.mkdir()
    key = signer(private)
    (public / "a.pub").write_text(public_pem(key.public_key))
    (public / "b.pub").write_text(public_pem(key.public_key))
    statement = paid(tmp_path / "store").statement()
    assert [each.keyid for each in public_keys(public)] == [key.public_key.keyid]
    assert verify(sign(statement, key), public_keys(public)) == statement
    with pytest.raises(KeyUnusable, match=r"signing\.pem: cannot be read"):
        load_signer(public)


def test_a_key_is_named_by_the_hash_of_its_public_half(tmp_path: Path) -> None:
    # openssl pkey -in key.pem -pubout -outform DER | sha256sum
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "signing.pem").write_text(
        "-----BEGIN PRIVATE KEY-----\n"
        "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
        "-----END PRIVATE KEY-----\n"
    )
    expected = "06e3fd8fda29bb60ab59557de61edb0aecdb231134be30e75b455f8e1b792fa9"
    assert load_signer(folder).public_key.keyid == expected


def test_what_is_no_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyUnusable, match=r"neither signing\.pem nor any public key"):
        public_keys(tmp_path)
    path = tmp_path / "signing.pem"
    rsa = generate_private_key(public_exponent=65537, key_size=2048)
    pems = {
        "no private key in PEM": b"not a key",
        "not an Ed25519 key": rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "larger than a key": b"-" * 100_000,
    }
    for message, pem in pems.items():
        path.write_bytes(pem)
        with pytest.raises(KeyUnusable, match=f"signing.pem: {message}"):
            load_signer(tmp_path)
    signer(tmp_path)
    public = rsa.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for message, pem in {"no public key in PEM": b"", "not an Ed25519 key": public}.items():
        (tmp_path / "old.pub").write_bytes(pem)
        with pytest.raises(KeyUnusable, match=f"old.pub: {message}"):
            public_keys(tmp_path)
