"""The journal's entries: closed, versioned, hash-chained, with one byte string each."""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from palimpsest.ledger.errors import LedgerError
from palimpsest.privacy.mechanisms import DecimalString, Mechanism

VERSION: Literal[1] = 1
COMPARTMENT: Literal["default"] = "default"
MAX_BYTES = 64 * 1024
MAX_MESSAGE = 160
MAX_UNITS = 10**24

Text = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Moment = Annotated[
    str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(\.[0-9]{1,6})?Z$")
]
Nonce = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
# Twelve digits name the object.
Sequence = Annotated[int, Field(ge=0, lt=10**12)]
Units = Annotated[int, Field(ge=0, le=MAX_UNITS)]
Delta = Annotated[
    str, StringConstraints(pattern=r"^(0\.[0-9]{1,30}|[1-9](\.[0-9]{1,12})?e-[1-9][0-9]?)$")
]
Basis = Literal["completed", "disrupted", "full"]


class Record(BaseModel):
    """A frozen part of an entry, spelled in camelCase; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Subject(Record):
    """For which resource, of which cluster, a charge is made."""

    namespace: Text
    kind: Text
    name: Text
    cluster: Text


class DataIdentity(Record):
    """The private data set. All budgets of one journal agree on it."""

    uri: Text
    format: Literal["JSONL", "Parquet"]
    textField: Text  # noqa: N815 - the journal's spelling
    records: Annotated[int, Field(ge=1, le=10_000_000_000)]
    privacyUnit: Literal["Record"]  # noqa: N815


class LimitBody(Record):
    """Everything ever released is (epsilon, delta)-DP."""

    epsilon: DecimalString
    delta: Delta


class GateOrder(Record):
    """One order of a Renyi filter and the delta it is converted at."""

    order: Annotated[int, Field(ge=2, le=256)]
    delta: Delta


class Gate(Record):
    """The rule that grants reservations."""

    kind: Literal["renyi-filter"]
    orders: Annotated[list[GateOrder], Field(min_length=1, max_length=1)]


class Compartment(Record):
    """A part of the budget with a gate of its own. Version 1 knows one."""

    id: Literal["default"]
    epsilon: DecimalString
    delta: Delta
    gate: Gate


class Open(Record):
    """The first entry: whose data, what limit, which gate."""

    journal: Text
    data: DataIdentity
    limit: LimitBody
    compartments: Annotated[list[Compartment], Field(min_length=1, max_length=1)]


class Tighten(Record):
    """The limit goes down."""

    epsilon: DecimalString


class HeadRef(Record):
    """The entry that was the last when a reservation was decided."""

    sequence: Sequence
    digest: Digest


class Reserve(Record):
    """A charge's worst case is set aside."""

    charge: Digest
    compartment: Literal["default"]
    slot: None
    head: HeadRef
    subject: Subject
    taskDigest: Digest  # noqa: N815
    mechanism: Mechanism
    restarts: Annotated[int, Field(ge=0, le=100)]
    blockSteps: Annotated[int, Field(ge=1, le=10_000_000)]  # noqa: N815
    cost: Units
    accountant: Literal["palimpsest/1"]


class Start(Record):
    """A stage's attempt is about to read private data."""

    charge: Digest
    attempt: Annotated[int, Field(ge=1, le=101)]


class Intent(Record):
    """An attempt is about to execute a block of steps."""

    charge: Digest
    attempt: Annotated[int, Field(ge=1, le=101)]
    block: Annotated[int, Field(ge=0, le=10_000_000)]
    steps: Annotated[int, Field(ge=1, le=10_000_000)]
    cost: Units


class Commit(Record):
    """A charge is settled, for ever."""

    charge: Digest
    cost: Units
    basis: Basis


class Release(Record):
    """A reservation that never started is given back."""

    charge: Digest
    basis: Text


class Tombstone(Record):
    """The budget ends: no further reservation."""

    basis: Text


Kind = Literal["open", "tighten", "reserve", "start", "intent", "commit", "release", "tombstone"]
Body = Open | Tighten | Reserve | Start | Intent | Commit | Release | Tombstone
BODIES: dict[Kind, type[Body]] = {
    "open": Open,
    "tighten": Tighten,
    "reserve": Reserve,
    "start": Start,
    "intent": Intent,
    "commit": Commit,
    "release": Release,
    "tombstone": Tombstone,
}
KINDS = {body: kind for kind, body in BODIES.items()}


class Totals(Record):
    """Spending of a compartment after an entry, in the gate's units."""

    committed: Units
    reserved: Units


class _Envelope(Record):
    version: Literal[1]
    sequence: Sequence
    previous: Digest | None
    kind: Kind
    time: Moment
    nonce: Nonce
    totals: Annotated[dict[Literal["default"], Totals], Field(min_length=1)]


class Entry(_Envelope):
    """One immutable line of the journal."""

    body: Body

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces, UTF-8."""
        return json.dumps(
            self.model_dump(mode="json"),
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
        ).encode()


def digest(data: bytes) -> str:
    """`sha256:<hex>` of an entry's bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def parse(data: bytes) -> Entry:
    """The entry in these bytes. Raises LedgerError naming the field; canonical bytes only."""
    if len(data) > MAX_BYTES:
        raise LedgerError(f"an entry of {len(data)} bytes is longer than {MAX_BYTES}")
    try:
        raw: Any = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise LedgerError("an entry is no JSON") from error
    body_type = _body_type(raw)
    try:
        body = body_type.model_validate(raw.get("body"))
        envelope = _Envelope.model_validate({k: v for k, v in raw.items() if k != "body"})
    except ValidationError as error:
        raise invalid(error) from error
    entry = Entry.model_construct(
        **{name: getattr(envelope, name) for name in _Envelope.model_fields}, body=body
    )
    if entry.to_bytes() != data:
        raise LedgerError("an entry is not written in its canonical form")
    return entry


def invalid(error: ValidationError) -> LedgerError:
    """A LedgerError that names the field."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "body"
    # A message may quote what it was given; a hostile entry could give megabytes.
    return LedgerError(f"{place}: {first['msg'][:MAX_MESSAGE]}")


def _body_type(raw: Any) -> type[Body]:
    kind = raw.get("kind") if isinstance(raw, dict) else None
    for known, body in BODIES.items():
        if kind == known:
            return body
    raise LedgerError("kind: unknown kind of entry")
