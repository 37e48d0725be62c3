"""What an AlignmentRun wants: a model aligned on a published data set."""

from collections.abc import Iterator
from datetime import datetime

from palimpsest.api.alignment import AlignmentRunSpec, AlignmentRunStatus
from palimpsest.api.annotation import Annotation
from palimpsest.api.common import ArtifactRef
from palimpsest.terms.files import files_of_run, private_file_refusal

from . import gates, stages, tasks
from .conditions import Verdict, conditions
from .observed import ObservedAlignment
from .plan import Plan
from .policies import ttl
from .stages import Step
from .tasks import StagePlan


def reconcile(observed: ObservedAlignment, now: datetime) -> Plan:
    """The next step of the run. Raises NotObservedError to ask for an object."""
    if observed.meta.deleting:
        return Plan(status=None, finalizer=False)  # its Jobs go with it, by owner reference
    steps = list(_steps(observed, now))
    last, names = steps[-1], stage_names(observed.run.spec)
    done = last.done and len(steps) == len(names)
    verdict = _published(observed, last) if done else last.verdict
    ready = verdict.state == "Ready"
    seconds = observed.run.spec.ttl_seconds_after_finished if ready else None
    ended, due = ttl.finished(observed.jobs, seconds, now)
    previous = observed.run.status
    told = [ttl.remembered(step.status, previous.stages if previous else ()) for step in steps]
    status = AlignmentRunStatus(
        observed_generation=observed.meta.generation,
        summary=verdict.reason,
        progress=_progress(last, names),
        guarantee=_guarantee(observed),
        stages=told,
        model=last.artifacts[0] if done else None,
        conditions=conditions(
            previous.conditions if previous else [],
            verdict,
            told,
            observed.meta.generation,
            now,
        ),
    )
    return Plan(
        status=status.model_dump(by_alias=True, exclude_none=True),
        children=(*last.children, *ended),
        finalizer=False,
        requeue=_requeue(last, verdict, due),
    )


def stage_names(spec: AlignmentRunSpec) -> list[str]:
    """The stages that the run goes through, in order."""
    learns = spec.reward is not None and spec.reward.trained is not None
    return [*(("reward",) if learns else ()), tasks.align_stage(spec)]


def _progress(last: Step, names: list[str]) -> str:
    """The last stage's own, under its name where it is one of several."""
    told = last.status.progress
    return f"{last.status.name} {told}" if told and len(names) > 1 else told


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


def _steps(observed: ObservedAlignment, now: datetime) -> Iterator[Step]:
    """Each stage's step, ending with the first that is not done."""
    spec = observed.run.spec
    name, first = spec.dataset_ref.name, stage_names(spec)[0]
    data = observed.dataset
    if data is None:
        yield stages.waiting(
            first,
            "DatasetNotFound",
            f"SyntheticDataset {name} does not exist in namespace {observed.meta.namespace}.",
            requeue=None,
        )
        return
    status = data.dataset.status
    if status is None or status.dataset is None or status.summary != "Ready":
        yield stages.waiting(
            first,
            "DatasetNotReady",
            f"Waiting for SyntheticDataset {name} to be Ready.",
            requeue=None,
        )
        return
    lacking = _lacking(spec, data.dataset.spec.annotation)
    if lacking:
        message = f"SyntheticDataset {name} has {lacking}"
        step = stages.waiting(first, "DatasetWithoutAnswers", message)
        verdict = Verdict("Stalled", "DatasetWithoutAnswers", message)
        yield Step(step.status, verdict, requeue=None)
        return
    private = _private(observed)
    if private:
        yield stages.held(first, Verdict("Stalled", "FileIsPrivate", private), None)
        return
    learnt: tuple[ArtifactRef, ...] = ()
    if spec.reward and spec.reward.trained:
        reward = _public(
            observed, tasks.reward_model(observed.meta, spec, spec.reward.trained), now
        )
        yield reward
        if not reward.done:
            return
        learnt = reward.artifacts
    origin, guarantee = data.dataset.spec.output, _guarantee(observed)
    plan = tasks.align(observed.meta, spec, status.dataset, origin, guarantee, learnt)
    yield _public(observed, plan, now)


def _private(observed: ObservedAlignment) -> str:
    """What admission refuses, refused again here: the run may have been there before the budget
    that says what is private."""
    own = observed.budget.meta.name if observed.budget else ""
    return private_file_refusal(files_of_run(observed.run.spec), observed.private, own)


def _public(observed: ObservedAlignment, plan: StagePlan, now: datetime) -> Step:
    spec = observed.run.spec
    return stages.public_stage(
        observed.meta,
        plan,
        spec.compute,
        observed.jobs,
        observed.objects,
        observed.settings,
        spec.suspend,
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
