"""The keys that sign receipts, as the mounted Secret has them.

`signing.pem` is the Ed25519 private key (PKCS8); every `*.pub` is a public key (PEM) whose receipts
stay valid: keys that were retired, or another cluster's. A folder of public keys alone will do for
whoever only verifies. The files are read anew each time, so a rotation needs no restart.
"""

import hashlib
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, SSlibKey

from palimpsest.receipts.errors import KeyUnusable

SIGNING = "signing.pem"
PUBLIC_SUFFIX = ".pub"
MAX_KEYS = 64
MAX_BYTES = 8192


def load_signer(folder: Path) -> CryptoSigner:
    """The signing key. Raises KeyUnusable naming the file and the remedy."""
    path = folder / SIGNING
    try:
        private = load_pem_private_key(_read(path), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if isinstance(error, KeyUnusable):
            raise
        raise KeyUnusable(f"{path}: no private key in PEM without a password") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise KeyUnusable(
            f"{path}: not an Ed25519 key; make one with: openssl genpkey -algorithm ed25519"
        )
    return CryptoSigner(private, _key(private.public_key()))


def public_keys(folder: Path) -> list[SSlibKey]:
    """Every key whose receipts are accepted: the signing key's first, if it is there.

    Raises KeyUnusable naming the file that holds none, or the folder without any.
    """
    keys = [load_signer(folder).public_key] if (folder / SIGNING).exists() else []
    try:
        files = sorted(folder.glob(f"*{PUBLIC_SUFFIX}"))
    except OSError as error:
        raise KeyUnusable(f"{folder}: cannot be read ({type(error).__name__})") from error
    if len(files) > MAX_KEYS:
        raise KeyUnusable(f"{folder}: more than {MAX_KEYS} public keys")
    known = {key.keyid for key in keys}
    for path in files:
        key = public_key(_read(path), str(path))
        if key.keyid not in known:
            known.add(key.keyid)
            keys.append(key)
    if not keys:
        raise KeyUnusable(f"{folder}: neither {SIGNING} nor any public key *{PUBLIC_SUFFIX}")
    return keys


def public_key(pem: bytes, source: str) -> SSlibKey:
    """One public key from its PEM. Raises KeyUnusable naming `source`."""
    try:
        loaded = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyUnusable(f"{source}: no public key in PEM") from error
    if not isinstance(loaded, Ed25519PublicKey):
        raise KeyUnusable(f"{source}: not an Ed25519 key")
    return _key(loaded)


def public_pem(key: SSlibKey) -> str:
    """The key as PEM (SubjectPublicKeyInfo)."""
    raw = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.keyval["public"]))
    return raw.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def key_id(public: Ed25519PublicKey) -> str:
    """SHA-256 of the SubjectPublicKeyInfo, in hexadecimal."""
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def _key(public: Ed25519PublicKey) -> SSlibKey:
    return SSlibKey.from_crypto(public, keyid=key_id(public))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise KeyUnusable(
            f"{path}: cannot be read ({type(error).__name__}); mount the Secret that the chart's "
            "value receipts.signingKeySecret names"
        ) from error
    if len(data) > MAX_BYTES:
        raise KeyUnusable(f"{path}: larger than a key")
    return data
