"""What becomes of a private stage's charge: reserve, run in fenced attempts, settle. Pure.

The rules are the journal's own (a release only before any start; committed intents only after
completion or a disruption attested from outside); this decides which of them to ask for.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from palimpsest.api.base import duration
from palimpsest.api.budget import PrivacyBudgetSpec
from palimpsest.api.common import ChargeStatus, PrivateCompute, StageStatus
from palimpsest.api.task import ChargeRef
from palimpsest.ledger.state import Charge, LedgerState
from palimpsest.privacy.gate import renyi_cost
from palimpsest.privacy.mechanisms import Mechanism
from palimpsest.receipts.statement import Statement

from . import jobs, receipting, stages
from .conditions import Verdict
from .observed import Job, Meta, Objects, ReceiptKeys, Settings
from .plan import Commit, CreateJob, CreateService, DeleteJob, Release, Reserve
from .policies import attempts, deadlines
from .shares import left_share, spent_share
from .stages import Step
from .tasks import StagePlan

STATES: dict[str, Literal["Reserved", "Started", "Committed", "Released"]] = {
    "reserved": "Reserved",
    "started": "Started",
    "committed": "Committed",
    "released": "Released",
}


@dataclass(frozen=True)
class PrivateStage:
    """A stage that reads private data, with what it may cost.

    `refused` is why the custodian's terms let no pod begin, if they do not; `before` is the reason
    that the status gave for the same spec.
    """

    meta: Meta
    plan: StagePlan
    charge: ChargeRef
    mechanism: Mechanism
    restarts: int
    block_steps: int
    budget: PrivacyBudgetSpec
    budget_name: str
    compute: PrivateCompute
    settings: Settings
    keys: ReceiptKeys
    suspend: bool
    refused: Verdict | None
    before: str
    now: datetime

    @property
    def compute_digest(self) -> str:
        """What the pods would be given now."""
        return jobs.compute_digest(self.compute, self.budget.custodian)

    def held_back(self) -> Step | None:
        """Why no pod may begin now, if none may."""
        if self.refused:
            return stages.held(self.plan.stage, self.refused, None)
        if self.suspend:
            return stages.waiting(
                self.plan.stage, "Suspended", "spec.suspend is true.", requeue=None
            )
        return None

    @property
    def place(self) -> receipting.Place:
        """Where the release's receipt is looked for."""
        return receipting.Place(
            manifest=self.plan.manifests[0],
            charge=self.charge.id,
            releases=self.plan.storage,
            journal=self.budget.dataset.storage,
        )

    def reserve(self) -> Reserve:
        """The reservation of the stage's worst case."""
        return Reserve(
            charge=self.charge.id,
            subject=self.plan.task.subject,
            task=self.plan.digest,
            mechanism=self.mechanism,
            restarts=self.restarts,
            block_steps=self.block_steps,
        )

    def create(self, attempt: int) -> CreateJob:
        """The Job of an attempt."""
        return CreateJob(
            jobs.manifest(
                self.meta,
                self.plan.task,
                self.plan.digest,
                self.compute,
                self.settings,
                self.budget.custodian,
                attempt,
            )
        )


def private_stage(
    stage: PrivateStage,
    ledger: LedgerState,
    all_jobs: tuple[Job, ...],
    objects: Objects,
) -> Step:
    """A stage in custody: nothing runs before its reservation stands in the journal.

    A receipt is looked at first: one that the journal does not bear out says that the journal was
    cut, and what looks unspent may be spent.
    """
    view = ledger.charges.get(stage.charge.id)
    tried = attempts_of(stage, all_jobs)
    latest = tried[-1] if tried else None
    status = charge_status(stage, ledger, view)
    receipt = receipting.standing(stage.place, ledger, stage.keys, objects)
    if isinstance(receipt, receipting.Held):
        step = stages.held(stage.plan.stage, receipt.verdict, status)
        return replace(step, witnesses=(receipt.witness,) if receipt.witness else ())
    if view is None or view.status == "released":
        return _reserve(stage, ledger, latest, status)
    if view.active and view.subject.cluster != stage.settings.cluster:
        return stages.waiting(
            stage.plan.stage,
            "ChargeHeldElsewhere",
            "Another cluster holds this charge; it can be adopted once that cluster has settled "
            "it.",
        )
    found = stages.published(stage.plan, objects)
    if found.trouble:
        return stages.store_trouble(stage.plan.stage, found.trouble)
    if found.complete:
        done = stages.succeeded(stage.plan, latest, found.artifacts, status)
        if view.active:
            verdict = Verdict("Reconciling", "Committing", "The charge is being committed.")
            commit = Commit(stage.charge.id, "completed")
            return replace(done, verdict=verdict, ledger=(commit,), requeue=0.2)
        return _signed(stage, done, receipt, status, objects)
    if not view.active:
        return _spent(stage, latest, status)
    timeout = duration(stage.budget.reservation_timeout)
    if deadlines.expired(view, latest, timeout, stage.now):
        return _give_back(stage, latest, status)
    if latest is None or latest.deleting:
        return _begin(stage, view, latest, status)
    if latest.state == "Active":
        step = stages.running(stage.plan, latest, stages.Progress(_so_far(stage, view)), status)
        if latest.unserved:
            step = replace(step, children=(CreateService(latest.unserved),))
        if view.attempts >= latest.attempt:
            # It reads records, whatever its pods look like.
            return step
        return stages.replaced(step, latest, stage.create(latest.attempt).manifest, stage.suspend)
    return _ended(stage, view, latest, status)


def _signed(
    stage: PrivateStage,
    done: Step,
    receipt: Statement | None,
    status: ChargeStatus | None,
    objects: Objects,
) -> Step:
    """A release that is paid for: nothing is built on it before its receipt is there."""
    finding = receipting.changed(stage.place, receipt, done.artifacts[0]) if receipt else None
    if receipt and finding is None:
        return replace(done, receipt=stage.place.uri)
    wanted = finding or receipting.signing(stage.place, objects)
    if isinstance(wanted, Verdict):
        return stages.held(stage.plan.stage, wanted, status)
    verdict = Verdict("Reconciling", "SigningReceipt", "The release's receipt is being signed.")
    return replace(done, verdict=verdict, receipts=(wanted,), requeue=0.2)


def attempts_of(stage: PrivateStage, all_jobs: tuple[Job, ...]) -> list[Job]:
    """The stage's Jobs, oldest attempt first."""
    prefix = jobs.job_name(stage.meta.name, stage.plan.stage, stage.plan.digest) + "-"
    mine = [job for job in all_jobs if job.name.startswith(prefix)]
    return sorted(mine, key=lambda job: job.attempt)


def charge_status(
    stage: PrivateStage, ledger: LedgerState, view: Charge | None
) -> ChargeStatus | None:
    """The charge as the status shows it."""
    if view is None:
        return None
    return ChargeStatus(
        id=stage.charge.id,
        state=STATES[view.status],
        share=spent_share(ledger, view.cost),
        noise_multiplier=stage.mechanism.noiseMultiplier,
    )


def _so_far(stage: PrivateStage, view: Charge) -> str:
    """Where the present attempt is; steps that a restart repeats are spent anew, not done anew."""
    if view.next_block is None:
        return ""
    whole = _steps(stage)
    return f"{min(whole, view.next_block * view.block_steps)}/{whole} steps"


def _steps(stage: PrivateStage) -> int:
    parameters = stage.plan.task.parameters
    return parameters.steps if parameters.stage == "train" else 1


def _reserve(
    stage: PrivateStage,
    ledger: LedgerState,
    latest: Job | None,
    status: ChargeStatus | None,
) -> Step:
    name = stage.plan.stage
    held_back = stage.held_back()
    if held_back:
        return held_back
    if latest is not None and latest.state == "Failed":
        # It failed before it touched anything, and its reservation was given back.
        at = attempts.retry_at(latest, stage.compute_digest)
        return stages.retried(stage.plan, latest, at, stage.now, status)
    if stage.before == deadlines.TIMED_OUT:
        return _timed_out(stage, status)
    cost = renyi_cost(stage.mechanism, ledger.order)
    if cost > ledger.left:
        message = (
            f"The {name} stage needs {spent_share(ledger, cost)} of the gate of PrivacyBudget "
            f"{stage.budget_name}; {left_share(ledger)} is left."
        )
        return Step(
            StageStatus(name=name, state="Waiting", message=message),
            Verdict("Stalled", "BudgetExceeded", message),
            requeue=None,
        )
    step = stages.waiting(name, "Reserving", "The charge is being reserved.", 0.2)
    return replace(step, ledger=(stage.reserve(),))


def _begin(
    stage: PrivateStage,
    view: Charge,
    latest: Job | None,
    status: ChargeStatus | None,
) -> Step:
    name = stage.plan.stage
    if latest is not None:
        return stages.waiting(
            name, "Restarting", "Waiting for the last attempt's pod to go.", stages.POLL_SECONDS
        )
    held_back = stage.held_back()
    if held_back:
        return held_back
    if view.attempts > stage.restarts:
        step = stages.waiting(
            name,
            "AttemptsExhausted",
            f"The stage was interrupted more often than its {stage.restarts} allowed restarts.",
            0.2,
        )
        return replace(step, ledger=(Commit(stage.charge.id, "full"),))
    return stages.creating(stage.plan, stage.create(view.attempts + 1), status)


def _ended(stage: PrivateStage, view: Charge, latest: Job, status: ChargeStatus | None) -> Step:
    """The latest attempt's Job failed, or succeeded without an artifact."""
    name = stage.plan.stage
    reason, message = stages.why(latest)
    if latest.state == "Succeeded":
        reason, message = "ArtifactMissing", "The stage ended well but its artifact is missing."
    started = view.attempts >= latest.attempt
    at = attempts.retry_at(latest, stage.compute_digest)
    if at is not None and not started:
        # Same attempt, so the same name: the old Job goes first.
        return stages.retried(stage.plan, latest, at, stage.now, status)
    # What has read records is tried again only if nothing but its surroundings ended it.
    outside = latest.failure in ("Disrupted", "Retryable") or latest.outcome in attempts.PAUSES
    if at is not None and outside and view.attempts <= stage.restarts:
        held_back = stage.held_back()
        if held_back:
            return held_back
        step = stages.waiting(
            name, "Restarting", f"{message} Another attempt follows.", stages.POLL_SECONDS
        )
        if stage.now < at:
            return replace(step, requeue=max(1.0, (at - stage.now).total_seconds()))
        return replace(step, children=(stage.create(view.attempts + 1),))
    end = stages.failed(stage.plan, latest, reason, message, status)
    if not view.attempts:
        return replace(end, ledger=(Release(stage.charge.id),), requeue=0.2)
    # The attestation must be of the last attempt that started, not of an earlier one.
    attested = latest.failure == "Disrupted" and latest.attempt == view.attempts
    basis: Literal["disrupted", "full"] = "disrupted" if attested else "full"
    return replace(end, ledger=(Commit(stage.charge.id, basis),), requeue=0.2)


def _give_back(stage: PrivateStage, latest: Job | None, status: ChargeStatus | None) -> Step:
    """The Job first: its pod must not begin on a reservation that is gone."""
    step = _timed_out(stage, status)
    if latest is None:
        return replace(step, ledger=(Release(stage.charge.id),), requeue=0.2)
    children = () if latest.deleting else (DeleteJob(latest.namespace, latest.name),)
    return replace(step, children=children, requeue=stages.POLL_SECONDS)


def _timed_out(stage: PrivateStage, status: ChargeStatus | None) -> Step:
    message = deadlines.message(stage.plan.stage, stage.budget.reservation_timeout)
    verdict = Verdict("Stalled", deadlines.TIMED_OUT, message)
    return replace(stages.held(stage.plan.stage, verdict, status), requeue=None)


def _spent(stage: PrivateStage, latest: Job | None, status: ChargeStatus | None) -> Step:
    """Committed without an artifact: spent for nothing, and never tried again for free."""
    reason, message = (
        stages.why(latest)
        if latest and latest.state == "Failed"
        else (
            "ReleaseMissing",
            "The charge is committed but its artifact is not in the releases.",
        )
    )
    return Step(
        StageStatus(name=stage.plan.stage, state="Failed", message=message, charge=status),
        Verdict("Stalled", reason, message),
        requeue=None,
    )
