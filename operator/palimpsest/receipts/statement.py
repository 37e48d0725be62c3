"""The statement a receipt carries: an in-toto Statement v1 with a predicate of our own.

Closed and bounded field by field. Nothing in it depends on a private record: no count, no realised
batch, no digest of private input. Public figures only, and the journal's own head.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel

from palimpsest.api.task import canonical_json
from palimpsest.ledger.entries import (
    Basis,
    Delta,
    Digest,
    HeadRef,
    Moment,
    Sequence,
    Text,
    Units,
)
from palimpsest.privacy.mechanisms import DecimalString, Mechanism
from palimpsest.receipts.errors import ReceiptInvalid

STATEMENT_TYPE: Literal["https://in-toto.io/Statement/v1"] = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Literal["https://palimpsest.dev/receipt/v1"] = "https://palimpsest.dev/receipt/v1"
SPENT_LABEL: Literal["valid if charge parameters were chosen without seeing earlier releases"] = (
    "valid if charge parameters were chosen without seeing earlier releases"
)
MAX_SUBJECTS = 256
MAX_MESSAGE = 160

Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Uri = Annotated[str, StringConstraints(pattern=r"^s3://\S+$", max_length=2048)]


class Part(BaseModel):
    """A frozen part of a statement, spelled in camelCase; unknown fields are refused."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        strict=True,
    )


class DigestSet(Part):
    """in-toto's digest set, with the one algorithm used here."""

    sha256: Hex


class ResourceDescriptor(Part):
    """One released object: its URI and its digest. The first is the manifest."""

    name: Uri
    digest: DigestSet


class Limit(Part):
    """What the journal allowed at signing; it can only have gone down since."""

    epsilon: DecimalString
    delta: Delta


class Gate(Part):
    """The rule that granted the charges."""

    kind: Literal["renyi-filter"]
    order: Annotated[int, Field(ge=2, le=256)]


class Budget(Part):
    """The budget as its journal knows it; `name` is the PrivacyBudget's."""

    name: Text
    journal: Text
    limit: Limit
    gate: Gate
    privacy_unit: Literal["Record"]
    records: Annotated[int, Field(ge=1, le=10_000_000_000)]
    text_field: Text


class Artifact(Part):
    """A manifest by URI and digest."""

    uri: Uri
    digest: Digest


class Release(Part):
    """For which resource it was made, and where it lies."""

    kind: Text
    namespace: Text
    name: Text
    manifest: Artifact


class Charge(Part):
    """A committed charge that paid for the release.

    `cost` in the gate's units (1e-15 nats), `share` of the limit rounded up, and the journal's
    sequence numbers of the last attempt's `start` and of the `commit`.
    """

    id: Digest
    mechanism: Mechanism
    restarts: Annotated[int, Field(ge=0, le=100)]
    block_steps: Annotated[int, Field(ge=1, le=10_000_000)]
    basis: Basis
    cost: Units
    share: DecimalString
    start_sequence: Sequence
    commit_sequence: Sequence


class Spent(Part):
    """What all committed charges of the budget spent together, at signing, rounded up.

    Not a guarantee by itself: see `label`. `epsilonPLD` is null where the second accountant is not
    installed or could not answer in time.
    """

    epsilon_rdp: DecimalString = Field(alias="epsilonRDP")
    order_rdp: DecimalString = Field(alias="orderRDP")
    epsilon_pld: DecimalString | None = Field(alias="epsilonPLD")
    delta: Delta
    label: Literal["valid if charge parameters were chosen without seeing earlier releases"] = (
        SPENT_LABEL
    )


class Operator(Part):
    """Who signed."""

    version: Text


class Predicate(Part):
    """The receipt proper."""

    budget: Budget
    release: Release
    charges: Annotated[list[Charge], Field(min_length=1, max_length=16)]
    guarantee: Text
    spent: Spent
    journal_head: HeadRef
    attestations: Annotated[list[Text], Field(min_length=1, max_length=16)]
    operator: Operator
    time: Moment


class Statement(Part):
    """An in-toto Statement v1."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(STATEMENT_TYPE, alias="_type")
    subject: Annotated[list[ResourceDescriptor], Field(min_length=1, max_length=MAX_SUBJECTS)]
    predicate_type: Literal["https://palimpsest.dev/receipt/v1"] = PREDICATE_TYPE
    predicate: Predicate

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces, UTF-8."""
        return canonical_json(self.model_dump(mode="json", by_alias=True))


def parse(data: bytes) -> Statement:
    """The statement in these canonical bytes. Raises ReceiptInvalid naming the field."""
    try:
        statement = Statement.model_validate_json(data)
    except ValidationError as error:
        raise ReceiptInvalid(named_field(error, "statement")) from error
    if statement.to_bytes() != data:
        raise ReceiptInvalid("the statement is not written in its canonical form")
    return statement


def named_field(error: ValidationError, whole: str) -> str:
    """The first wrong field and what is wrong with it, bounded; `whole` where it is all of it."""
    first = error.errors(include_url=False, include_input=False)[0]
    # Places and messages may quote what they were given; a hostile receipt could give megabytes.
    place = ".".join(str(part) for part in first["loc"])[:MAX_MESSAGE] or whole
    return f"{place}: {first['msg'][:MAX_MESSAGE]}"
