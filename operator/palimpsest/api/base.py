"""What every API model shares: camelCase on the wire, closed field sets, bounded scalar types."""

from datetime import timedelta
from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
)
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo


class ApiModel(BaseModel):
    """A frozen model whose JSON names are camelCase and whose unknown fields are refused."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
    )


def faults(error: ValidationError, *under: str) -> str:
    """Each wrong field with what is wrong; `under` names what the fields lie in."""
    return "; ".join(
        f"{'.'.join([*under, *map(str, each['loc'])]) or 'document'}: "
        f"{each['msg'].removeprefix('Value error, ')}"
        for each in error.errors()
    )


def said(pattern: str, message: str) -> FieldInfo:
    """The pattern once more as a CEL rule: a schema's own message only repeats the expression."""
    quoted = pattern.replace("\\", "\\\\")
    rules: list[JsonValue] = [{"rule": f"self.matches('{quoted}')", "message": message}]
    found: FieldInfo = Field(json_schema_extra={"x-kubernetes-validations": rules})
    return found


_POSITIVE = r"^(0\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\.[0-9]{1,12})?)$"
_UNIT = r"^(0\.[0-9]{0,11}[1-9]|1(\.0{1,12})?)$"
_FRACTION = r"^0(\.[0-9]{0,11}[1-9])?$"
_DELTA = r"^([1-9](\.[0-9]{1,6})?e-[1-9][0-9]?|0\.[0-9]{0,29}[1-9])$"
QUANTITY = r"^[0-9]{1,9}(\.[0-9]{1,3})?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"
_DURATION = r"^[1-9][0-9]{0,5}[smhd]$"
_DIGEST = r"^sha256:[0-9a-f]{64}$"
PREFIX = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([A-Za-z0-9._=+-]+/)*$"
_OBJECT = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([A-Za-z0-9._=+-]+/)*[A-Za-z0-9._=+-]+$"
# Where journals, and all that custody keeps beside them, lie in a bucket of private data.
JOURNAL_ROOT = ".palimpsest"

# Decimal strings: binary floats neither survive YAML round trips nor compare exactly in CEL.
# The patterns exclude NaN, infinities, signs and exponents (save delta's), so Decimal() is total.
PositiveDecimal = Annotated[
    str,
    StringConstraints(pattern=_POSITIVE, max_length=20),
    said(_POSITIVE, 'must be a decimal above 0 as a string, for example "3" or "0.5"'),
]
UnitDecimal = Annotated[
    str,
    StringConstraints(pattern=_UNIT, max_length=14),
    said(_UNIT, 'must be a decimal above 0 and at most 1 as a string, for example "0.95"'),
]
FractionDecimal = Annotated[
    str,
    StringConstraints(pattern=_FRACTION, max_length=14),
    said(_FRACTION, 'must be 0 or a decimal below 1 as a string, for example "0.9"'),
]
DeltaDecimal = Annotated[
    str,
    StringConstraints(pattern=_DELTA, max_length=32),
    said(_DELTA, 'must be a number between 0 and 1 as a string, for example "1e-6"'),
]
Duration = Annotated[
    str,
    StringConstraints(pattern=_DURATION, max_length=7),
    said(_DURATION, "must be a whole number and s, m, h or d, for example 24h"),
]
Digest = Annotated[
    str,
    StringConstraints(pattern=_DIGEST, max_length=71),
    said(_DIGEST, "must be sha256: and 64 lower-case hexadecimal digits"),
]
StoreUri = Annotated[
    str,
    StringConstraints(pattern=PREFIX, max_length=512),
    said(PREFIX, "must be s3://bucket/prefix/ with a slash at the end"),
]
ObjectUri = Annotated[
    str,
    StringConstraints(pattern=_OBJECT, max_length=512),
    said(_OBJECT, "must be s3://bucket/path/to/file without a slash at the end"),
]
ObjectName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=63)
]


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(text: str) -> timedelta:
    """The time that a Duration says, for example 24h."""
    return timedelta(seconds=int(text[:-1]) * _SECONDS[text[-1]])
