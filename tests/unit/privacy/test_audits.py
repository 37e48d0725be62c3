"""What an audit of a generator can find out, and what its guesses say."""

from typing import Any

import pytest
import samples
from palimpsest.api.audit import AuditParameters
from palimpsest.api.budget import PrivacyBudgetSpec
from palimpsest.api.generator import PrivateGeneratorSpec
from palimpsest.privacy.audits import judge, plan_audit, powerless

BUDGET = PrivacyBudgetSpec.model_validate(samples.budget()["spec"])


def spec(canaries: int, epsilon: str = "3", **audit: Any) -> PrivateGeneratorSpec:
    made = samples.generator(privacy={"epsilon": epsilon}, audit={"canaries": canaries, **audit})
    return PrivateGeneratorSpec.model_validate(made["spec"])


def planned(canaries: int, epsilon: str = "3") -> AuditParameters:
    audit = plan_audit(spec(canaries, epsilon), BUDGET)
    assert audit is not None
    return audit


def test_without_an_audit_there_is_none() -> None:
    plain = PrivateGeneratorSpec.model_validate(samples.generator()["spec"])
    assert plan_audit(plain, BUDGET) is None
    assert powerless(plain, BUDGET) == ""


def test_a_plan_is_public_numbers() -> None:
    audit = planned(200)
    assert audit.model_dump(by_alias=True) == {
        "canaries": 200,
        "includedGuesses": 78,
        "excludedGuesses": 25,
        "epsilon": "3",
        "delta": "1e-6",
        "confidence": "0.95",
    }


def test_an_audit_without_power_says_what_would_have_it() -> None:
    message = powerless(spec(50), BUDGET)
    assert message == (
        "50 canaries cannot refute epsilon 3: the largest bound that they could prove is 2.18; "
        "take 105 canaries"
    )
    assert powerless(spec(105), BUDGET) == ""
    assert powerless(spec(104), BUDGET)


def test_a_claim_beyond_every_audit_says_so() -> None:
    assert "100000 would not do either" in powerless(spec(16, "12"), BUDGET)


@pytest.mark.parametrize(
    ("canaries", "wrong", "verdict", "bound"),
    [
        (200, 0, "Failed", "3.522"),
        (200, 1, "Failed", "3.049"),
        (200, 2, "Passed", "2.753"),
        (200, 51, "Passed", "0"),
        (50, 0, "NoPower", "2.18"),
        (50, 20, "NoPower", "0"),
    ],
)
def test_the_verdict_follows_from_the_right_guesses(
    canaries: int, wrong: int, verdict: str, bound: str
) -> None:
    audit = planned(canaries)
    guesses = audit.included_guesses + audit.excluded_guesses
    result = judge(audit, guesses - wrong)
    assert (result.verdict, result.bound) == (verdict, bound)
    assert result.correct == guesses - wrong
    with pytest.raises(ValueError, match="correct <= guesses"):
        judge(audit, guesses + 1)


def test_a_claim_is_refuted_exactly_not_to_the_printed_digit() -> None:
    # 62 guesses refute (3, 0) but not a claim a hair above.
    figures = {"canaries": 62, "included_guesses": 62, "excluded_guesses": 0}
    rest = {"delta": "1e-30", "confidence": "0.95"}
    at = judge(AuditParameters(**figures, **rest, epsilon="3.005"), 62)
    above = judge(AuditParameters(**figures, **rest, epsilon="3.006"), 62)
    assert (at.verdict, above.verdict) == ("Failed", "NoPower")
    assert at.bound == above.bound == "3.005"
