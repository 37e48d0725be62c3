"""What every API model shares: camelCase on the wire, closed field sets, bounded scalar types."""

from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic.alias_generators import to_camel


class ApiModel(BaseModel):
    """A frozen model whose JSON names are camelCase and whose unknown fields are refused."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
    )


# Decimal strings: binary floats neither survive YAML round trips nor compare exactly in CEL.
# The patterns exclude NaN, infinities, signs and exponents (save delta's), so Decimal() is total.
PositiveDecimal = Annotated[
    str,
    StringConstraints(
        pattern=r"^(0\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\.[0-9]{1,12})?)$", max_length=20
    ),
]
UnitDecimal = Annotated[
    str, StringConstraints(pattern=r"^(0\.[0-9]{0,11}[1-9]|1(\.0{1,12})?)$", max_length=14)
]
NonNegativeDecimal = Annotated[
    str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,5})(\.[0-9]{1,12})?$", max_length=20)
]
DeltaDecimal = Annotated[
    str,
    StringConstraints(
        pattern=r"^([1-9](\.[0-9]{1,6})?e-[1-9][0-9]?|0\.[0-9]{0,29}[1-9])$", max_length=32
    ),
]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(text: str) -> timedelta:
    """The time that a Duration says, for example 24h."""
    return timedelta(seconds=int(text[:-1]) * _SECONDS[text[-1]])


ObjectName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=63)
]
Duration = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,5}[smhd]$", max_length=7)]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$", max_length=71)]
StoreUri = Annotated[
    str,
    StringConstraints(
        pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([A-Za-z0-9._=+-]+/)*$", max_length=512
    ),
]
ObjectUri = Annotated[
    str,
    StringConstraints(
        pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([A-Za-z0-9._=+-]+/)*[A-Za-z0-9._=+-]+$",
        max_length=512,
    ),
]
