"""What a PrivacyBudget wants: an open journal, and a status that repeats it."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Literal

from palimpsest.api.budget import (
    ChargeSummary,
    LedgerHead,
    PrivacyBudgetStatus,
    Shares,
)
from palimpsest.ledger.entries import Tighten
from palimpsest.ledger.errors import LedgerError
from palimpsest.ledger.state import Charge, LedgerState
from palimpsest.privacy.mechanisms import PoissonSubsampledGaussian
from palimpsest.terms.files import overlap_refusal

from .charges import STATES
from .conditions import Finding, Verdict, conditions
from .observed import BudgetView, LedgerTrouble, ObservedBudget
from .plan import LedgerAction, Open, Plan
from .shares import left_share, spent_share

REFRESH_SECONDS = 300.0
RETRY_SECONDS = 30.0
LATEST_CHARGES = 20

LIMIT_BELOW_SPENT = "LimitBelowSpent"
# Troubles that pass only when somebody changes something.
LASTING = ("UriInvalid", "UriNested")
ENDED = (
    "The journal carries a tombstone and nothing more can be reserved: the budget was ended, or a "
    "prefix inside its data has a journal of its own."
)


def reconcile(observed: ObservedBudget, now: datetime) -> Plan:
    """Open the journal if there is none, tighten it if the limit was lowered, repeat its state."""
    view = observed.view
    previous = view.budget.status
    ledger = view.ledger
    actions: tuple[LedgerAction, ...] = ()
    verdict, requeue = _verdict(view)
    if _opens(view):
        actions = (Open(),)
        verdict = Verdict("Reconciling", "OpeningJournal", "The journal is being opened.")
    # What is remembered of a journal that contradicts it is the evidence: it stays.
    described = previous or PrivacyBudgetStatus()
    if isinstance(ledger, LedgerState) and ledger.is_open:
        described = _describe(view, ledger)
    status = described.model_copy(
        update={
            "observed_generation": view.meta.generation,
            "summary": verdict.reason,
            "conditions": conditions(
                previous.conditions if previous else [],
                verdict,
                (),
                view.meta.generation,
                now,
                (_verified(view),),
            ),
        }
    )
    return Plan(
        status=status.model_dump(by_alias=True, exclude_none=True),
        ledger=actions,
        finalizer=False,
        requeue=requeue,
    )


def _opens(view: BudgetView) -> bool:
    """Whether an entry is due that opens the journal or lowers its limit."""
    ledger = view.ledger
    if isinstance(ledger, LedgerTrouble) or overlap_refusal(view.budget.spec):
        return False
    return not ledger.is_open or _tightens(view, ledger)


def _verdict(view: BudgetView) -> tuple[Verdict, float]:
    if isinstance(view.ledger, LedgerTrouble):
        trouble = view.ledger
        lasting = trouble.unsound or trouble.reason in LASTING
        state: Literal["Stalled", "Reconciling"] = "Stalled" if lasting else "Reconciling"
        return Verdict(state, trouble.reason, trouble.message), RETRY_SECONDS
    if view.ledger.tombstoned:
        return Verdict("Stalled", "BudgetEnded", ENDED), REFRESH_SECONDS
    mismatch = _mismatch(view, view.ledger)
    if mismatch:
        return Verdict("Stalled", "JournalMismatch", mismatch), REFRESH_SECONDS
    overlap = overlap_refusal(view.budget.spec)
    if overlap:
        # Admission refuses it; it may have been away.
        return Verdict("Stalled", "PlacesOverlap", overlap), REFRESH_SECONDS
    if not view.custody.granted:
        return (
            Verdict("Reconciling", "CustodyNotGranted", f"{view.custody.message}."),
            RETRY_SECONDS,
        )
    below = below_spent(view)
    if below:
        return Verdict("Stalled", LIMIT_BELOW_SPENT, below), RETRY_SECONDS
    message = f"The journal is open. {guarantee(view)}"
    return Verdict("Ready", "Ready", message), REFRESH_SECONDS


def _verified(view: BudgetView) -> Finding:
    """Whether the journal holds all that is remembered of it; an unread one tells nothing new."""
    kind, ledger = "LedgerVerified", view.ledger
    if isinstance(ledger, LedgerState):
        message = "The journal follows its own rules and holds all that is remembered of it."
        return Finding(kind, "True", "Verified", message)
    if ledger.unsound:
        return Finding(kind, "False", ledger.reason, ledger.message)
    status = view.budget.status
    for before in status.conditions if status else ():
        if before.type == kind:
            return Finding(kind, before.status, before.reason, before.message)
    return Finding(kind, "Unknown", ledger.reason, ledger.message)


def _mismatch(view: BudgetView, ledger: LedgerState) -> str:
    """What the journal says otherwise than the budget: the journal's word stands."""
    dataset, limit = view.budget.spec.dataset, view.budget.spec.limit
    told = ledger.data
    if told is None:
        return ""
    pairs = (
        ("spec.dataset.records", dataset.records, told.records),
        ("spec.dataset.format", dataset.format, told.format),
        ("spec.dataset.textField", dataset.text_field, told.textField),
        ("spec.dataset.privacyUnit", dataset.privacy_unit, told.privacyUnit),
        ("spec.limit.delta", Decimal(limit.delta), Decimal(ledger.delta)),
    )
    for field, here, there in pairs:
        if here != there:
            return (
                f"{field} is {here}, but this data's journal was opened with {there}; every "
                "budget of the same data must agree with it."
            )
    if Decimal(limit.epsilon) > Decimal(ledger.epsilon):
        return (
            f"spec.limit.epsilon is {limit.epsilon}, but this data's journal was limited to "
            f"{ledger.epsilon}; a limit only goes down."
        )
    return ""


def _lowered(view: BudgetView, ledger: LedgerState) -> bool:
    return Decimal(view.budget.spec.limit.epsilon) < Decimal(ledger.epsilon)


def _tightens(view: BudgetView, ledger: LedgerState) -> bool:
    return _lowered(view, ledger) and not below_spent(view)


def below_spent(view: BudgetView) -> str:
    """Why the journal does not take the lower limit, and nothing new is given out; "" if it does.

    Admission refuses such a limit; a reservation may have come in between.
    """
    ledger = view.ledger
    if isinstance(ledger, LedgerTrouble) or not ledger.is_open or not _lowered(view, ledger):
        return ""
    try:
        ledger.after(Tighten(epsilon=view.budget.spec.limit.epsilon))
    except LedgerError as refused:
        return (
            f"spec.limit.{refused}. The limit stays {ledger.epsilon}: what was paid for goes on, "
            "and nothing more is given out."
        )
    return ""


def _describe(view: BudgetView, ledger: LedgerState) -> PrivacyBudgetStatus:
    head = ledger.head
    return PrivacyBudgetStatus(
        journal=view.budget.spec.dataset.uri,
        head=LedgerHead(sequence=head.sequence, digest=head.digest) if head else None,
        gate_order=ledger.order,
        shares=Shares(
            committed=spent_share(ledger, ledger.committed),
            reserved=spent_share(ledger, ledger.reserved),
            left=left_share(ledger),
        ),
        guarantee=guarantee(view),
        charges=[_summary(charge, ledger) for charge in ledger.latest(LATEST_CHARGES)],
    )


def _summary(charge: Charge, ledger: LedgerState) -> ChargeSummary:
    mechanism = charge.mechanism
    noise = f"noise multiplier {mechanism.noiseMultiplier}"
    if isinstance(mechanism, PoissonSubsampledGaussian):
        text = f"DP-SGD, batch {mechanism.batch}, at most {mechanism.steps} steps, {noise}"
    else:
        text = f"histogram, {noise}"
    subject = charge.subject
    return ChargeSummary(
        id=charge.id,
        subject=f"{subject.kind}/{subject.namespace}/{subject.name}",
        mechanism=text,
        state=STATES[charge.status],
        share=spent_share(ledger, charge.cost),
    )


def usable(view: BudgetView) -> Verdict | None:
    """None if charges of this budget can be settled, else why not.

    Whether new ones may be made is said by `below_spent` too.
    """
    verdict, _ = _verdict(view)
    # The last thing that is looked at: all else is well.
    if verdict.reason == LIMIT_BELOW_SPENT:
        return None
    if verdict.state == "Ready" and isinstance(view.ledger, LedgerState) and view.ledger.is_open:
        return None
    if verdict.state == "Ready":
        return Verdict("Reconciling", "OpeningJournal", "The budget's journal is not open yet.")
    return replace(verdict, message=f"PrivacyBudget {view.meta.name}: {verdict.message}")


def guarantee(view: BudgetView) -> str:
    """The statement that holds whatever is released from the budget.

    At the journal's limit: a lower one of the spec holds only once the journal has taken it. While
    the journal cannot be read, what was said of it last.
    """
    ledger, before = view.ledger, view.budget.status
    if isinstance(ledger, LedgerTrouble) or not ledger.is_open:
        return before.guarantee if before else ""
    return (
        f"Everything ever released from PrivacyBudget {view.meta.name} is (epsilon "
        f"{ledger.epsilon}, delta {ledger.delta})-differentially private with respect to adding or "
        f"removing one {view.budget.spec.dataset.privacy_unit.lower()}."
    )
