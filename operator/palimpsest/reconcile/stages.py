"""How far a stage is, and what it needs next. Pure; the same for every stage outside custody."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from palimpsest.api.common import FIGURES, ArtifactRef, ChargeStatus, Compute, StageStatus
from palimpsest.api.outcomes import MESSAGES
from palimpsest.api.task import EndpointInput, Task, sha256_digest
from palimpsest.ledger.state import Head

from . import jobs
from .conditions import Verdict
from .observed import Job, Meta, Objects, Settings, StoreTrouble
from .plan import ChildAction, CreateJob, DeleteJob, LedgerAction, Relay, SignReceipt
from .policies import attempts, queueing, replacement
from .tasks import StagePlan

POLL_SECONDS = 5.0
RETRY_SECONDS = 30.0
# Of a figure: what the API server takes is smaller than what JSON can say.
_MOST = 2**53


@dataclass(frozen=True)
class Step:
    """A stage's part of a plan. `artifacts` is set once the stage is done.

    `receipt` is the URI of the release's receipt, once that is there and sound; `figures` are what
    a stage outside custody tells of its result.
    """

    status: StageStatus
    verdict: Verdict
    artifacts: tuple[ArtifactRef, ...] = ()
    ledger: tuple[LedgerAction, ...] = ()
    receipts: tuple[SignReceipt, ...] = ()
    receipt: str = ""
    figures: Mapping[str, int] = field(default_factory=dict)
    witnesses: tuple[Head, ...] = ()
    relays: tuple[Relay, ...] = ()
    children: tuple[ChildAction, ...] = ()
    requeue: float | None = POLL_SECONDS

    @property
    def done(self) -> bool:
        """Whether the stage's artifact is published."""
        return bool(self.artifacts)

    @property
    def settled(self) -> bool:
        """Whether it is done and, if it cost anything, paid for and signed for."""
        return self.done and not self.ledger and not self.receipts


@dataclass(frozen=True)
class Found:
    """A stage's manifests, as far as they are there."""

    artifacts: tuple[ArtifactRef, ...] = ()
    complete: bool = False
    trouble: StoreTrouble | None = field(default=None)


def published(plan: StagePlan, objects: Objects) -> Found:
    """The stage's artifacts. Raises NotObservedError while the store was not asked."""
    artifacts: list[ArtifactRef] = []
    for uri in plan.manifests:
        answer = objects.read(plan.storage, uri)
        if isinstance(answer, StoreTrouble):
            return Found(trouble=answer)
        if answer is not None:
            artifacts.append(ArtifactRef(uri=uri, digest=sha256_digest(answer)))
    return Found(tuple(artifacts), complete=len(artifacts) == len(plan.manifests))


def figures(plan: StagePlan, objects: Objects) -> dict[str, int]:
    """What the stage's manifest tells of its result; none that are no natural numbers.

    A tenant's store may hold anything under a manifest's name.
    """
    answer = objects.read(plan.storage, plan.manifests[0])
    try:
        told = json.loads(answer)["figures"] if isinstance(answer, bytes) else {}
        return {
            name: value
            for name, value in told.items()
            if type(value) is int and 0 <= value <= _MOST
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


@dataclass(frozen=True)
class Progress:
    """What a stage's pods told: `done/total unit[, n tokens]`, "" before the first report."""

    text: str = ""
    figures: dict[str, str] = field(default_factory=dict)


def progress(plan: StagePlan, objects: Objects) -> Progress:
    """Summed over shards; the figures are those of the last one that has any."""
    done = total = tokens = 0
    unit, figures = "", dict[str, str]()
    for prefix in plan.prefixes:
        answer = objects.read(plan.storage, f"{prefix}progress.json")
        if not isinstance(answer, bytes):
            continue
        try:
            report = json.loads(answer)
            done, total = done + int(report["done"]), total + int(report["total"])
            tokens += int(report.get("tokens", 0))
            unit = str(report["unit"])[:40]
            figures = _figures(report.get("figures", {})) or figures
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # a progress report is a courtesy; a broken one is not worth an error
    told = f", {tokens} tokens" if tokens else ""
    return Progress(f"{done}/{total} {unit}{told}" if total else "", figures)


def _figures(told: dict[str, Any]) -> dict[str, str]:
    return {
        name: f"{told[name]:.6g}"
        for name in FIGURES
        if isinstance(told.get(name), int | float) and math.isfinite(told[name])
    }


def waiting(stage: str, reason: str, message: str, requeue: float | None = RETRY_SECONDS) -> Step:
    """A stage that cannot begin yet. `requeue` None: what it waits for wakes it."""
    return Step(
        StageStatus(name=stage, state="Waiting", message=message[:512]),
        Verdict("Reconciling", reason, message),
        requeue=requeue,
    )


def succeeded(
    plan: StagePlan,
    job: Job | None,
    artifacts: tuple[ArtifactRef, ...],
    charge: ChargeStatus | None = None,
) -> Step:
    """A stage whose artifact is there."""
    status = StageStatus(
        name=plan.stage,
        state="Succeeded",
        progress="done",
        job=job.name if job else "",
        start_time=job.started if job else "",
        completion_time=job.ended if job else "",
        artifacts=list(artifacts),
        charge=charge,
    )
    message = f"The {plan.stage} stage published its artifact."
    return Step(status, Verdict("Ready", "Succeeded", message), artifacts, requeue=None)


def failed(
    plan: StagePlan,
    job: Job,
    reason: str,
    message: str,
    charge: ChargeStatus | None = None,
    so_far: str = "",
) -> Step:
    """A stage that ended without an artifact and is not tried again by itself."""
    if so_far:
        message = f"{message} It came to {so_far}."
    status = StageStatus(
        name=plan.stage,
        state="Failed",
        progress=so_far,
        message=message[:512],
        job=job.name,
        start_time=job.started,
        completion_time=job.ended,
        charge=charge,
    )
    return Step(status, Verdict("Stalled", reason, message), requeue=None)


def why(job: Job) -> tuple[str, str]:
    """Reason and message of a failed Job, from the closed set of outcomes."""
    if job.outcome is not None:
        return job.outcome.value, MESSAGES[job.outcome]
    if job.failure == "Disrupted":
        return "Disrupted", "The stage's pod was evicted or its node was lost."
    return "StageFailed", f"Job {job.name} failed without a word; see its events and pods."


def _endpoints(task: Task) -> str:
    """Which endpoints a message speaks of, and how they are entered."""
    told = []
    for name, access in task.endpoints.items():
        asked = task.inputs[name]
        if isinstance(asked, EndpointInput):
            key = f"Secret {access.secret}" if access.secret else "no Secret"
            told.append(f"{asked.base_url}, model {asked.model}, {key}")
    return f" ({'; '.join(told)})" if told else ""


def _compute(plan: StagePlan) -> str:
    """Where a spec says what the stage's pods have."""
    if plan.task.subject.kind != "SyntheticDataset":
        return "spec.compute"
    if plan.stage in ("sample", "annotate"):
        return f"spec.compute.{plan.stage} (left out: default)"
    return "spec.compute.default"


def retried(
    plan: StagePlan,
    job: Job,
    at: datetime | None,
    now: datetime,
    charge: ChargeStatus | None = None,
    so_far: str = "",
) -> Step:
    """A stage whose Job failed: over, or another Job at the time `at` under the same name."""
    reason, message = why(job)
    if job.outcome and job.outcome.of_the_endpoint:
        message += _endpoints(plan.task)
    # Of a stage in custody nothing is told but the outcome.
    if job.shortage and plan.task.charge is None:
        message = job.shortage.told(_compute(plan))
    if at is None:
        return failed(plan, job, reason, message, charge, so_far)
    step = waiting(plan.stage, reason, f"{message} Another attempt follows.", POLL_SECONDS)
    status = step.status.model_copy(update={"charge": charge, "job": job.name})
    step = replace(step, status=status)
    if job.deleting:
        return step
    if now < at:
        return replace(step, requeue=max(1.0, (at - now).total_seconds()))
    return replace(step, children=(DeleteJob(job.namespace, job.name),))


def running(
    plan: StagePlan, job: Job, so_far: Progress, charge: ChargeStatus | None = None
) -> Step:
    """A stage whose Job is active."""
    trouble = next((pod.trouble for pod in job.pods if pod.trouble), job.trouble)
    started = any(pod.phase in ("Running", "Succeeded") for pod in job.pods)
    if trouble:
        reason, message = trouble
        message = f"The {plan.stage} stage's pod cannot start: {message}"
    elif job.suspended:
        reason = "Queued" if job.queue else "JobSuspended"
        message = queueing.waiting_message(job.name, job.queue)
    elif started:
        reason = "Running"
        message = f"The {plan.stage} stage is running" + (
            f": {so_far.text}." if so_far.text else "."
        )
    else:
        reason, message = "Pending", f"The {plan.stage} stage's pod is starting."
    status = StageStatus(
        name=plan.stage,
        state="Running" if started else "Pending",
        progress=so_far.text,
        figures=so_far.figures,
        message=message[:512],
        job=job.name,
        start_time=job.started,
        charge=charge,
    )
    return Step(status, Verdict("Reconciling", reason, message))


def replaced(step: Step, job: Job, manifest: Mapping[str, Any], suspend: bool) -> Step:
    """With an end of the Job, if it cannot start and another or none is asked for by now."""
    if not replacement.due(job, jobs.asked(manifest), suspend):
        return step
    return replace(step, children=(DeleteJob(job.namespace, job.name),))


def creating(plan: StagePlan, manifest: ChildAction, charge: ChargeStatus | None = None) -> Step:
    """A stage whose Job is being created in this pass."""
    message = f"The {plan.stage} stage's Job is being created."
    return Step(
        StageStatus(name=plan.stage, state="Pending", message=message, charge=charge),
        Verdict("Reconciling", "Pending", message),
        children=(manifest,),
    )


def held(stage: str, verdict: Verdict, charge: ChargeStatus | None) -> Step:
    """A stage about which nothing may be done until the verdict's cause is gone."""
    status = StageStatus(name=stage, state="Waiting", message=verdict.message[:512], charge=charge)
    return Step(status, verdict, requeue=RETRY_SECONDS)


def store_trouble(stage: str, trouble: StoreTrouble) -> Step:
    """A store that could not be asked: nothing is known, so nothing is done."""
    return waiting(stage, trouble.reason, trouble.message)


def public_stage(
    meta: Meta,
    plan: StagePlan,
    compute: Compute,
    all_jobs: tuple[Job, ...],
    objects: Objects,
    settings: Settings,
    suspend: bool,
    now: datetime,
) -> Step:
    """A stage outside custody: its artifact if published, else its Job, else a new Job."""
    found = published(plan, objects)
    name = jobs.job_name(meta.name, plan.stage, plan.digest)
    job = next((job for job in all_jobs if job.name == name), None)
    if found.trouble:
        return store_trouble(plan.stage, found.trouble)
    if found.complete:
        return succeeded(plan, job, found.artifacts)
    manifest = jobs.manifest(meta, plan.task, plan.digest, compute, settings, None, 1)
    if job is None:
        if suspend:
            return waiting(plan.stage, "Suspended", "spec.suspend is true.", requeue=None)
        return creating(plan, CreateJob(manifest))
    if job.state == "Failed":
        at = attempts.retry_at(job, jobs.compute_digest(compute, None))
        return retried(plan, job, at, now, so_far=progress(plan, objects).text)
    if job.state == "Succeeded" and not job.deleting:
        # The artifact was there when the pod exited; it is gone, so the work is done again.
        return Step(
            StageStatus(name=plan.stage, state="Waiting", message="The artifact is missing."),
            Verdict("Reconciling", "ArtifactMissing", "The artifact is missing; made again."),
            children=(DeleteJob(job.namespace, job.name),),
        )
    step = running(plan, job, progress(plan, objects))
    return replaced(step, job, manifest, suspend)
