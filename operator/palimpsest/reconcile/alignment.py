"""What an AlignmentRun wants: a model aligned on a published data set."""

from datetime import datetime

from palimpsest.api.alignment import AlignmentRunSpec, AlignmentRunStatus
from palimpsest.api.annotation import Annotation

from . import gates, stages, tasks
from .conditions import Verdict, conditions
from .observed import ObservedAlignment
from .plan import Plan
from .policies import ttl
from .stages import Step


def reconcile(observed: ObservedAlignment, now: datetime) -> Plan:
    """The next step of the run. Raises NotObservedError to ask for an object."""
    if observed.meta.deleting:
        return Plan(status=None, finalizer=False)  # its Jobs go with it, by owner reference
    step = _align(observed, now)
    verdict = step.verdict
    if step.done:
        verdict = _published(observed, step)
    ready = verdict.state == "Ready"
    seconds = observed.run.spec.ttl_seconds_after_finished if ready else None
    ended, due = ttl.finished(observed.jobs, seconds, now)
    previous = observed.run.status
    stage = ttl.remembered(step.status, previous.stages if previous else ())
    status = AlignmentRunStatus(
        observed_generation=observed.meta.generation,
        summary=verdict.reason,
        progress=step.status.progress,
        guarantee=_guarantee(observed),
        stages=[stage],
        model=step.artifacts[0] if step.done else None,
        conditions=conditions(
            previous.conditions if previous else [],
            verdict,
            [stage],
            observed.meta.generation,
            now,
        ),
    )
    return Plan(
        status=status.model_dump(by_alias=True, exclude_none=True),
        children=(*step.children, *ended),
        finalizer=False,
        requeue=_requeue(step, verdict, due),
    )


def _published(observed: ObservedAlignment, step: Step) -> Verdict:
    """Whether what is published is what was asked for."""
    spec = observed.run.spec
    if spec.evaluation is None or spec.evaluation.gates is None:
        return gates.READY
    return gates.standing(step.artifacts[0], spec.output.storage, observed.objects)


def _requeue(step: Step, verdict: Verdict, due: float | None) -> float | None:
    if step.done and verdict.state == "Reconciling":
        return stages.RETRY_SECONDS
    return due if step.requeue is None else step.requeue


def _align(observed: ObservedAlignment, now: datetime) -> Step:
    spec = observed.run.spec
    name, stage = spec.dataset_ref.name, tasks.align_stage(spec)
    data = observed.dataset
    if data is None:
        return stages.waiting(
            stage,
            "DatasetNotFound",
            f"SyntheticDataset {name} does not exist in namespace {observed.meta.namespace}.",
            requeue=None,
        )
    status = data.dataset.status
    if status is None or status.dataset is None or status.summary != "Ready":
        return stages.waiting(
            stage,
            "DatasetNotReady",
            f"Waiting for SyntheticDataset {name} to be Ready.",
            requeue=None,
        )
    lacking = _lacking(spec, data.dataset.spec.annotation)
    if lacking:
        message = f"SyntheticDataset {name} has {lacking}"
        step = stages.waiting(stage, "DatasetWithoutAnswers", message)
        return Step(step.status, Verdict("Stalled", "DatasetWithoutAnswers", message), requeue=None)
    plan = tasks.align(
        observed.meta,
        observed.run.spec,
        status.dataset,
        data.dataset.spec.output,
        _guarantee(observed),
    )
    return stages.public_stage(
        observed.meta,
        plan,
        observed.run.spec.compute,
        observed.jobs,
        observed.objects,
        observed.settings,
        observed.run.spec.suspend,
        now,
    )


def _guarantee(observed: ObservedAlignment) -> str:
    """The data set's statement, word for word."""
    if observed.dataset is None or observed.dataset.dataset.status is None:
        return ""
    return observed.dataset.dataset.status.guarantee


def _lacking(spec: AlignmentRunSpec, annotation: Annotation | None) -> str:
    """What the data set has not that the method learns from, and the remedy."""
    if not spec.needs_answers:
        return ""
    if annotation is None:
        return "no answers: give it spec.annotation to align a model on it."
    if spec.method == "DPO" and annotation.answers == 1 and annotation.human is None:
        return (
            "one answer to each instruction, and DPO learns from the better of several: make one "
            "with annotation.answers 2 or more, or give spec.dpo.preferences."
        )
    return ""
