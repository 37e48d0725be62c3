"""What a PrivateGenerator's audit can find out, from public numbers. Pure."""

from decimal import Decimal

from palimpsest.api.audit import AuditParameters, AuditResult, Verdict
from palimpsest.api.budget import PrivacyBudgetSpec
from palimpsest.api.generator import PrivateGeneratorSpec
from palimpsest.privacy.one_run import (
    MAX_CANARIES,
    canaries_for,
    guesses_for,
    has_power,
    largest_bound,
    lower_bound,
    refutes,
)


def plan_audit(spec: PrivateGeneratorSpec, budget: PrivacyBudgetSpec) -> AuditParameters | None:
    """The audit that the spec asks for. Raises ValueError where the batch exceeds the records."""
    if spec.audit is None:
        return None
    guesses = guesses_for(spec.audit.canaries, *_sampling(spec, budget))
    return AuditParameters(
        canaries=spec.audit.canaries,
        included_guesses=guesses.included,
        excluded_guesses=guesses.excluded,
        epsilon=spec.privacy.epsilon,
        delta=budget.limit.delta,
        confidence=spec.audit.confidence,
    )


def largest_provable(audit: AuditParameters) -> str:
    """The bound if every guess were right."""
    _, guesses, canaries, delta, confidence = _figures(audit)
    return f"{largest_bound(guesses, canaries, delta, confidence):f}"


def powerful(audit: AuditParameters) -> bool:
    """Whether the claim can be refuted at all."""
    epsilon, guesses, canaries, delta, confidence = _figures(audit)
    return has_power(guesses, canaries, epsilon, delta, confidence)


def powerless(spec: PrivateGeneratorSpec, budget: PrivacyBudgetSpec) -> str:
    """Why the audit cannot refute the claim, and what could; "" if it can, or none is asked for.

    Raises ValueError as `plan_audit` does.
    """
    audit = plan_audit(spec, budget)
    if audit is None or powerful(audit):
        return ""
    enough = canaries_for(
        *_sampling(spec, budget),
        Decimal(audit.epsilon),
        Decimal(audit.delta),
        Decimal(audit.confidence),
    )
    remedy = (
        f"take {enough} canaries"
        if enough
        else f"{MAX_CANARIES} would not do either: take a smaller epsilon, or more steps or larger "
        "batches, in which more canaries show"
    )
    return (
        f"{audit.canaries} canaries cannot refute epsilon {audit.epsilon}: the largest bound that "
        f"they could prove is {largest_provable(audit)}; {remedy}"
    )


def judge(audit: AuditParameters, correct: int) -> AuditResult:
    """What so many right guesses say. Raises ValueError if there are more than guesses."""
    epsilon, guesses, canaries, delta, confidence = _figures(audit)
    verdict: Verdict = "NoPower"
    if powerful(audit):
        failed = refutes(correct, guesses, canaries, epsilon, delta, confidence)
        verdict = "Failed" if failed else "Passed"
    return AuditResult(
        **audit.model_dump(),
        correct=correct,
        bound=f"{lower_bound(correct, guesses, canaries, delta, confidence):f}",
        largest_provable=largest_provable(audit),
        verdict=verdict,
    )


def _figures(audit: AuditParameters) -> tuple[Decimal, int, int, Decimal, Decimal]:
    """(epsilon, guesses, canaries, delta, confidence)."""
    return (
        Decimal(audit.epsilon),
        audit.included_guesses + audit.excluded_guesses,
        audit.canaries,
        Decimal(audit.delta),
        Decimal(audit.confidence),
    )


def _sampling(spec: PrivateGeneratorSpec, budget: PrivacyBudgetSpec) -> tuple[int, int, int]:
    """(expected batch size, records, steps)."""
    records = budget.dataset.records
    return spec.training.expected_batch_size, records, spec.training.steps_over(records)
