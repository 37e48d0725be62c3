"""The signature around a statement: DSSE with Ed25519, in one canonical byte string."""

import json
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from palimpsest.api.task import canonical_json
from palimpsest.receipts.errors import ReceiptInvalid
from palimpsest.receipts.statement import Statement, named_field, parse

PAYLOAD_TYPE: Literal["application/vnd.in-toto+json"] = "application/vnd.in-toto+json"
MAX_BYTES = 256 * 1024

_Base64 = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]+={0,2}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Signature(_Part):
    keyid: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    sig: _Base64


class _Wire(_Part):
    payload: _Base64
    payloadType: Literal["application/vnd.in-toto+json"]  # noqa: N815 - DSSE's spelling
    signatures: Annotated[list[_Signature], Field(min_length=1, max_length=1)]


def sign(statement: Statement, signer: CryptoSigner) -> bytes:
    """The receipt's bytes: a DSSE envelope with one signature."""
    envelope = Envelope(statement.to_bytes(), PAYLOAD_TYPE, {})
    envelope.sign(signer)
    return canonical_json(envelope.to_dict())


def verify(data: bytes, keys: Sequence[SSlibKey]) -> Statement:
    """The statement, if one of `keys` signed it and no byte is other than `sign` writes it.

    Raises ReceiptInvalid saying why.
    """
    envelope = _open(data)
    (signature,) = envelope.signatures.values()
    if signature.keyid not in {key.keyid for key in keys}:
        raise ReceiptInvalid(
            f"signed with key {signature.keyid}, which is none of the {len(keys)} public keys "
            "given; if it is a retired key, or another cluster's, list its public key"
        )
    try:
        envelope.verify(list(keys), 1)
    except (VerificationError, ValueError) as error:
        raise ReceiptInvalid(f"the signature is not that of key {signature.keyid}") from error
    return parse(envelope.payload)


def _open(data: bytes) -> Envelope:
    if len(data) > MAX_BYTES:
        raise ReceiptInvalid(f"{len(data)} bytes are more than a receipt's {MAX_BYTES}")
    try:
        _Wire.model_validate_json(data)
        envelope = Envelope.from_dict(json.loads(data))
        canonical = canonical_json(envelope.to_dict())
    except ValidationError as error:
        raise ReceiptInvalid(named_field(error, "envelope")) from error
    except (ValueError, RecursionError) as error:
        raise ReceiptInvalid("no DSSE envelope of a receipt") from error
    if canonical != data:
        raise ReceiptInvalid("the envelope is not written in its canonical form")
    return envelope
