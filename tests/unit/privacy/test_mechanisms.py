"""What a mechanism may say."""

import pytest
from palimpsest.privacy.mechanisms import Mechanism, counted
from pydantic import TypeAdapter, ValidationError

BAD_NUMBERS = [
    "",
    "NaN",
    "Infinity",
    "-1",
    "+1",
    "1e400",
    "1e0",
    "01",
    ".5",
    "1.",
    " 1",
    "1\n",
    "1_0",
    "\u0661",  # an Arabic-Indic one
    "\uff11",  # a full-width one
    "9" * 10_000,
    "0." + "1" * 31,
]
TRAINING = {
    "kind": "poisson-subsampled-gaussian",
    "batch": 10,
    "records": 100,
    "noiseMultiplier": "1.5",
    "steps": 3,
}


def parse(raw: object) -> Mechanism:
    return TypeAdapter[Mechanism](Mechanism).validate_python(raw)


def test_a_training_and_a_histogram_parse() -> None:
    assert parse(TRAINING).noiseMultiplier == "1.5"
    assert parse({"kind": "discrete-gaussian", "noiseMultiplier": "10", "sensitivity": 1})


def test_steps_of_equal_rate_and_noise_are_counted_together() -> None:
    histogram = {"kind": "discrete-gaussian", "noiseMultiplier": "10"}
    noisier = TRAINING | {"noiseMultiplier": "1.50"}
    made = [parse(each) for each in (TRAINING, histogram, TRAINING | {"steps": 4}, noisier)]
    steps = counted([*made, made[1]])
    single = [parse(each | {"steps": 1}) for each in (TRAINING, noisier)]
    assert steps == {single[0]: 7, made[1]: 2, single[1]: 3}
    assert counted([]) == {}


@pytest.mark.parametrize("number", [*BAD_NUMBERS, "0", "0.05", "100001", 1, 1.5, None, True])
def test_a_noise_multiplier_is_a_plain_decimal_in_range(number: object) -> None:
    with pytest.raises(ValidationError, match="noiseMultiplier"):
        parse({**TRAINING, "noiseMultiplier": number})


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "laplace"},
        {"kind": None},
        {"batch": 0},
        {"batch": 101},
        {"batch": True},
        {"batch": "10"},
        {"batch": 10.0},
        {"records": 10**11},
        {"steps": 0},
        {"steps": -1},
        {"steps": 10**9},
        {"steps": float("nan")},
        {"seed": 1},
    ],
)
def test_everything_else_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        parse({**TRAINING, **change})


@pytest.mark.parametrize("field", ["kind", "batch", "records", "noiseMultiplier", "steps"])
def test_nothing_may_be_missing(field: str) -> None:
    with pytest.raises(ValidationError):
        parse({key: value for key, value in TRAINING.items() if key != field})


def test_a_vote_counts_once() -> None:
    with pytest.raises(ValidationError):
        parse({"kind": "discrete-gaussian", "noiseMultiplier": "10", "sensitivity": 2})
