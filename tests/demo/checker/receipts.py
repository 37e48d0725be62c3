"""Receipts opened with other hands: the signature, what was signed, and the journal behind it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from demo.checker.artifacts import Artifact
from demo.checker.bucket import Bucket, CheckError

_PAYLOAD = "application/vnd.in-toto+json"
Keys = Mapping[str, Ed25519PublicKey]


def public_keys(pems: Mapping[str, str]) -> Keys:
    """Keys by their ids: the SHA-256 of what `openssl pkey -pubout -outform DER` writes."""
    keys = {}
    for name, pem in pems.items():
        key = load_pem_public_key(pem.encode())
        if not isinstance(key, Ed25519PublicKey):
            raise CheckError(f"{name}: no Ed25519 key")
        encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        keys[hashlib.sha256(encoded).hexdigest()] = key
    return keys


def audit(
    bucket: Bucket,
    artifacts: Sequence[Artifact],
    keys: Keys,
    charges: Mapping[str, Mapping[str, Any]],
    entries: Sequence[str],
) -> list[dict[str, Any]]:
    """What the receipts of all artifacts that were paid for say.

    `charges` by id with `state` and `cost`; `entries` are the digests of the journal's. Raises
    CheckError for one that is missing or does not hold.
    """
    return [
        _audit(bucket, artifact, keys, charges, entries)
        for artifact in artifacts
        if artifact.manifest.get("charge") is not None
    ]


def _audit(
    bucket: Bucket,
    artifact: Artifact,
    keys: Keys,
    charges: Mapping[str, Mapping[str, Any]],
    entries: Sequence[str],
) -> dict[str, Any]:
    uri = f"{artifact.prefix}receipt.json"
    statement = opened(bucket.get(uri), keys, uri)
    signed = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
    files = {artifact.prefix + file["path"]: file["digest"] for file in artifact.manifest["files"]}
    stated = {f"{artifact.prefix}manifest.json": artifact.digest, **files}
    if signed != {name: digest.removeprefix("sha256:") for name, digest in stated.items()}:
        raise CheckError(f"{uri}: signs other digests than the manifest's")
    told = statement["predicate"]
    head = told["journalHead"]
    if head["sequence"] >= len(entries) or entries[head["sequence"]] != head["digest"]:
        raise CheckError(f"{uri}: the journal does not hold entry {head['sequence']} as signed")
    if [charge["id"] for charge in told["charges"]] != [artifact.manifest["charge"]]:
        raise CheckError(f"{uri}: names other charges than the manifest")
    for charge in told["charges"]:
        known = charges.get(charge["id"], {})
        if (known.get("state"), known.get("cost")) != ("committed", charge["cost"]):
            raise CheckError(f"{uri}: charge {charge['id']} is not as the journal has it")
    return {
        "uri": uri,
        "stage": artifact.stage,
        "guarantee": told["guarantee"],
        "journalHead": head["sequence"],
        "shares": [charge["share"] for charge in told["charges"]],
        "spent": told["spent"],
    }


def opened(data: bytes, keys: Keys, uri: str) -> dict[str, Any]:
    """The statement in a DSSE envelope that one of the keys signed. Raises CheckError."""
    envelope = json.loads(data)
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"]
    signature = envelope["signatures"][0]
    if kind != _PAYLOAD or signature["keyid"] not in keys:
        raise CheckError(f"{uri}: signed by nobody known, or no in-toto statement")
    # DSSE's pre-authentication encoding (github.com/secure-systems-lab/dsse, protocol.md).
    said = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    try:
        keys[signature["keyid"]].verify(base64.b64decode(signature["sig"]), said)
    except InvalidSignature as error:
        raise CheckError(f"{uri}: the signature is wrong") from error
    statement: dict[str, Any] = json.loads(payload)
    return statement
