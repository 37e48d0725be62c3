"""The mechanisms that may be charged: an allow-list with its own schema.

Neighbours differ by one record, added or removed.
"""

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

MAX_RECORDS = 10_000_000_000
MAX_STEPS = 10_000_000
MIN_NOISE = Decimal("0.1")
MAX_NOISE = Decimal(100_000)

# ASCII digits only, no sign, no exponent, no NaN: two spellings of a number are two numbers to no
# reader of the journal.
DECIMAL_PATTERN = r"^(0|[1-9][0-9]{0,9})(\.[0-9]{1,20})?$"
DecimalString = Annotated[str, StringConstraints(pattern=DECIMAL_PATTERN, max_length=32)]


class _Mechanism(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    noiseMultiplier: DecimalString  # noqa: N815 - the journal's spelling

    @property
    def noise(self) -> Decimal:
        """The noise multiplier: standard deviation over sensitivity."""
        return Decimal(self.noiseMultiplier)

    @model_validator(mode="after")
    def _noise_in_range(self) -> Self:
        if not MIN_NOISE <= self.noise <= MAX_NOISE:
            raise ValueError(f"noiseMultiplier must lie between {MIN_NOISE} and {MAX_NOISE}")
        return self


class PoissonSubsampledGaussian(_Mechanism):
    """`steps` Gaussian sums, each over records drawn independently with rate batch / records."""

    kind: Literal["poisson-subsampled-gaussian"] = "poisson-subsampled-gaussian"
    batch: int = Field(ge=1, le=MAX_RECORDS)
    records: int = Field(ge=1, le=MAX_RECORDS)
    steps: int = Field(ge=1, le=MAX_STEPS)

    @property
    def rate(self) -> float:
        """The sampling rate."""
        return self.batch / self.records

    @model_validator(mode="after")
    def _batch_within_records(self) -> Self:
        if self.batch > self.records:
            raise ValueError("batch must not exceed records")
        return self


class DiscreteGaussian(_Mechanism):
    """One histogram with discrete Gaussian noise on every count; one vote a record."""

    kind: Literal["discrete-gaussian"] = "discrete-gaussian"
    sensitivity: Literal[1] = 1


Mechanism = Annotated[
    PoissonSubsampledGaussian | DiscreteGaussian,
    Field(discriminator="kind"),
]


def worst_steps(mechanism: Mechanism) -> int:
    """Steps that a reservation must cover.

    A training's mechanism names its worst case already. A histogram is one step however often it
    restarts: the first noisy counts kept in custody are the only ones that can be published.
    """
    return mechanism.steps if isinstance(mechanism, PoissonSubsampledGaussian) else 1


def one_step(mechanism: Mechanism) -> Mechanism:
    """The mechanism of a single one of its steps."""
    if isinstance(mechanism, PoissonSubsampledGaussian):
        return mechanism.model_copy(update={"steps": 1})
    return mechanism


def counted(mechanisms: Iterable[Mechanism]) -> Counter[Mechanism]:
    """How many there are of each single step, in order of appearance; they compose to the same."""
    steps: Counter[Mechanism] = Counter()
    for mechanism in mechanisms:
        steps[one_step(mechanism)] += worst_steps(mechanism)
    return steps
