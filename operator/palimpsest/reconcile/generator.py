"""What a PrivateGenerator wants: one training, paid for, published."""

from datetime import datetime

from palimpsest.api.generator import PrivateGeneratorStatus
from palimpsest.ledger.state import LedgerState
from palimpsest.privacy.pricing import price_training

from . import budget as budgets
from . import stages, tasks
from .charges import PrivateStage, private_stage, settle
from .conditions import Verdict, conditions
from .observed import BudgetView, ObservedGenerator
from .plan import Plan
from .stages import Step


def reconcile(observed: ObservedGenerator, now: datetime) -> Plan:
    """The next step of the training. Raises NotObservedError to ask for an object."""
    if observed.meta.deleting:
        return settle(observed.meta, observed.budget, observed.jobs)
    step = _train(observed)
    verdict = step.verdict
    if step.settled:
        verdict = Verdict("Ready", "Ready", "The generator is trained and released.")
    previous = observed.generator.status
    status = PrivateGeneratorStatus(
        observed_generation=observed.meta.generation,
        summary=verdict.reason,
        progress=step.status.progress,
        share=step.status.charge.share if step.status.charge else "",
        stages=[step.status],
        receipt=step.receipt,
        conditions=conditions(
            previous.conditions if previous else [],
            verdict,
            [step.status],
            observed.meta.generation,
            now,
        ),
    )
    return Plan(
        status=status.model_dump(by_alias=True, exclude_none=True),
        ledger=step.ledger,
        receipts=step.receipts,
        witnesses=step.witnesses,
        relays=step.relays,
        children=step.children,
        requeue=step.requeue,
    )


def train_stage(observed: ObservedGenerator, budget: BudgetView) -> PrivateStage:
    """The training with its price. Raises ValueError if no noise meets the epsilon."""
    spec = observed.generator.spec
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
    )


def _train(observed: ObservedGenerator) -> Step:
    spec = observed.generator.spec
    budget = observed.budget
    if budget is None:
        return stages.waiting(
            "train", "BudgetNotFound", f"PrivacyBudget {spec.budget_ref.name} does not exist."
        )
    refusal = budgets.usable(budget) or admissible(observed, budget)
    if refusal or not isinstance(budget.ledger, LedgerState):
        held = refusal or Verdict("Reconciling", "LedgerUnread", "The journal was not read.")
        step = stages.waiting("train", held.reason, held.message)
        return Step(step.status, held, requeue=step.requeue)
    try:
        stage = train_stage(observed, budget)
    except ValueError as error:
        held = Verdict("Stalled", "EpsilonUnreachable", str(error))
        return Step(stages.waiting("train", held.reason, held.message).status, held, requeue=None)
    return private_stage(stage, budget.ledger, observed.jobs, observed.objects, spec.suspend)


def admissible(observed: ObservedGenerator, budget: BudgetView) -> Verdict | None:
    """What admission refuses, refused again here: it may have been away when this was applied."""
    spec, paying = observed.generator.spec, budget.budget.spec
    if observed.meta.namespace not in paying.allowed_namespaces.names:
        return Verdict(
            "Stalled",
            "NamespaceNotAllowed",
            f"PrivacyBudget {budget.meta.name} does not list namespace {observed.meta.namespace} "
            "in spec.allowedNamespaces.names.",
        )
    if spec.base_model not in paying.allowed_models:
        return Verdict(
            "Stalled",
            "ModelNotAllowed",
            f"spec.baseModel is not one of PrivacyBudget {budget.meta.name}'s allowedModels "
            "(URI and digest must both agree).",
        )
    return None
