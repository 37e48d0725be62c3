"""What a PrivateGenerator wants: one training, paid for, published."""

from datetime import datetime

from palimpsest.api.budget import PrivacyBudgetSpec
from palimpsest.api.generator import PrivateGeneratorSpec, PrivateGeneratorStatus
from palimpsest.ledger.state import LedgerState
from palimpsest.privacy.audits import plan_audit, powerless
from palimpsest.privacy.pricing import price_training
from palimpsest.terms.placement import placement_refusal
from palimpsest.terms.tenants import model_refusal, namespace_refusal

from . import auditing, stages, tasks
from . import budget as budgets
from .charges import PrivateStage, private_stage
from .conditions import Verdict, conditions, standing
from .observed import BudgetView, ObservedGenerator
from .plan import Plan
from .policies import ttl
from .policies.deletion import answers_for_spending, settle
from .stages import Step


def reconcile(observed: ObservedGenerator, now: datetime) -> Plan:
    """The next step of the training. Raises NotObservedError to ask for an object."""
    if observed.meta.deleting:
        return settle(observed.meta, observed.budget, observed.jobs, observed.settings.cluster)
    step = _train(observed, now)
    audit = _audit(observed, step)
    verdict = step.verdict
    if audit and audit.verdict:
        verdict = audit.verdict
    elif step.settled:
        verdict = Verdict("Ready", "Ready", "The generator is trained and released.")
    seconds = observed.generator.spec.ttl_seconds_after_finished if step.settled else None
    ended, due = ttl.finished(observed.jobs, seconds, now)
    previous = observed.generator.status
    train = ttl.remembered(step.status, previous.stages if previous else ())
    status = PrivateGeneratorStatus(
        observed_generation=observed.meta.generation,
        summary=verdict.reason,
        progress=step.status.progress,
        share=step.status.charge.share if step.status.charge else "",
        stages=[train],
        audit=audit.status if audit else None,
        receipt=step.receipt,
        conditions=conditions(
            previous.conditions if previous else [],
            verdict,
            [train],
            observed.meta.generation,
            now,
            [audit.finding] if audit else (),
        ),
    )
    return Plan(
        status=status.model_dump(by_alias=True, exclude_none=True),
        ledger=step.ledger,
        receipts=step.receipts,
        witnesses=step.witnesses,
        relays=step.relays,
        children=(*step.children, *ended),
        finalizer=answers_for_spending(observed.meta, step.ledger, train.charge),
        requeue=_requeue(step, audit, due),
    )


def _requeue(step: Step, audit: auditing.Standing | None, due: float | None) -> float | None:
    if step.requeue is not None:
        return step.requeue
    if audit and audit.verdict and audit.verdict.state == "Reconciling":
        return stages.RETRY_SECONDS
    return due


def train_stage(observed: ObservedGenerator, budget: BudgetView, now: datetime) -> PrivateStage:
    """The training with its price. Raises ValueError if no noise meets the epsilon."""
    spec, status = observed.generator.spec, observed.generator.status
    mechanism = price_training(spec, budget.budget.spec)
    plan = tasks.train(observed.meta, spec, budget.budget.spec, mechanism.noiseMultiplier)
    charge = plan.task.charge
    if charge is None:
        raise ValueError("a training is always charged")
    return PrivateStage(
        meta=observed.meta,
        plan=plan,
        charge=charge,
        mechanism=mechanism,
        restarts=spec.training.restarts,
        block_steps=spec.training.checkpoint_interval,
        budget=budget.budget.spec,
        budget_name=budget.meta.name,
        compute=spec.compute,
        settings=observed.settings,
        keys=observed.keys,
        suspend=spec.suspend,
        refused=_refused(observed, budget),
        before=standing(status.conditions, observed.meta.generation) if status else "",
        now=now,
    )


def _train(observed: ObservedGenerator, now: datetime) -> Step:
    spec = observed.generator.spec
    budget = observed.budget
    if budget is None:
        return stages.waiting(
            "train",
            "BudgetNotFound",
            f"PrivacyBudget {spec.budget_ref.name} does not exist.",
            requeue=None,
        )
    refusal = budgets.usable(budget)
    if refusal or not isinstance(budget.ledger, LedgerState):
        held = refusal or Verdict("Reconciling", "LedgerUnread", "The journal was not read.")
        step = stages.waiting("train", held.reason, held.message)
        return Step(step.status, held, requeue=step.requeue)
    try:
        stage = train_stage(observed, budget, now)
    except ValueError as error:
        held = Verdict("Stalled", "EpsilonUnreachable", str(error))
        return Step(stages.waiting("train", held.reason, held.message).status, held, requeue=None)
    return private_stage(stage, budget.ledger, observed.jobs, observed.objects)


def _audit(observed: ObservedGenerator, step: Step) -> auditing.Standing | None:
    """Where the audit stands, if one is asked for and its budget is there to say of what."""
    if observed.budget is None:
        return None
    spec, paying = observed.generator.spec, observed.budget.budget.spec
    try:
        audit = plan_audit(spec, paying)
    except ValueError:
        return None
    if audit is None:
        return None
    before = observed.generator.status
    return auditing.standing(audit, step, paying.releases.storage, observed.objects, before)


def _refused(observed: ObservedGenerator, budget: BudgetView) -> Verdict | None:
    """What admission refuses, refused again here: it may have been away, or the terms changed."""
    spec, paying, name = observed.generator.spec, budget.budget.spec, budget.meta.name
    for reason, message in (
        (budgets.LIMIT_BELOW_SPENT, budgets.below_spent(budget)),
        (
            "NamespaceNotAllowed",
            namespace_refusal(paying, name, observed.meta.namespace, budget.tenant),
        ),
        ("ModelNotAllowed", model_refusal(paying, name, "spec.baseModel", spec.base_model)),
        (
            "PlacementNotAllowed",
            placement_refusal(paying.custodian.compute, spec.compute, "spec.compute"),
        ),
        ("AuditPowerless", _powerless(spec, paying)),
    ):
        if message:
            return Verdict("Stalled", reason, message)
    return None


def _powerless(spec: PrivateGeneratorSpec, paying: PrivacyBudgetSpec) -> str:
    if spec.audit is None or not spec.audit.required:
        return ""
    found = powerless(spec, paying)
    return found and f"spec.audit.canaries: {found}."
