"""What a SyntheticDataset wants: its stages one after the other, each from the artifacts before."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from palimpsest.api.common import ArtifactRef, Compute
from palimpsest.api.dataset import SyntheticDatasetStatus
from palimpsest.api.manifest import MANIFEST, Manifest
from palimpsest.ledger.state import LedgerState
from palimpsest.privacy.clusters import clusters_of
from palimpsest.privacy.pricing import price_histogram
from palimpsest.terms.files import files_of_dataset, private_file_refusal
from palimpsest.terms.placement import placement_refusal
from palimpsest.terms.tenants import model_refusal, namespace_refusal

from . import budget as budgets
from . import stages, tasks
from .charges import PrivateStage, private_stage
from .conditions import Verdict, conditions, standing
from .observed import BudgetView, GeneratorView, ObservedDataset, StoreTrouble
from .plan import Plan, Relay
from .policies import ttl
from .policies.deletion import answers_for_spending, settle
from .stages import Step
from .tasks import DatasetTasks, StagePlan

CENTROIDS = "centroids.safetensors"


def reconcile(observed: ObservedDataset, now: datetime) -> Plan:
    """The next step of the data set. Raises NotObservedError to ask for an object."""
    if observed.meta.deleting:
        return settle(observed.meta, observed.budget, observed.jobs, observed.settings.cluster)
    steps = _steps(observed, now)
    last = steps[-1]
    verdict, dataset = last.verdict, None
    card = next((step for step in steps if step.status.name == "card" and step.settled), None)
    figures = {name: value for step in steps for name, value in step.figures.items()}
    shortfall, enough = figures.get("poolShortfall"), figures.get("poolThatWouldDo")
    if card:
        # Whether its intermediates are gone by now is no part of that.
        verdict = Verdict(
            "Ready", "Ready", f"The data set is published.{_lacking(shortfall, enough)}"
        )
        dataset = card.artifacts[0]
    seconds = observed.dataset.spec.ttl_seconds_after_finished if dataset else None
    ended, due = ttl.finished(observed.jobs, seconds, now)
    previous = observed.dataset.status
    told = [ttl.remembered(step.status, previous.stages if previous else ()) for step in steps]
    charge = next((step.status.charge for step in steps if step.status.charge), None)
    names = stage_names(observed)
    done = sum(step.done for step in steps)
    detail = last.status.progress if last.status.state == "Running" else ""
    status = SyntheticDatasetStatus(
        observed_generation=observed.meta.generation,
        summary=verdict.reason,
        progress=f"{done}/{len(names)} stages"
        + (f", {last.status.name} {detail}".rstrip() if not last.done else ""),
        share=charge.share if charge else "",
        stages=told,
        dataset=dataset,
        pool_shortfall=shortfall,
        pool_that_would_do=enough,
        receipt=next((step.receipt for step in steps if step.receipt), ""),
        guarantee=budgets.guarantee(observed.budget) if observed.budget else "",
        budget=observed.budget.meta.name if observed.budget else "",
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
        ledger=last.ledger,
        receipts=last.receipts,
        witnesses=last.witnesses,
        relays=last.relays,
        children=(*last.children, *ended),
        finalizer=answers_for_spending(observed.meta, last.ledger, charge),
        requeue=due if last.requeue is None else last.requeue,
    )


def _lacking(shortfall: int | None, enough: int | None) -> str:
    if not shortfall:
        return ""
    told = f" Its clusters lacked {shortfall} instructions, which their neighbours gave"
    return f"{told}; spec.sampling.count {enough} would have done." if enough else f"{told}."


def stage_names(observed: ObservedDataset) -> list[str]:
    """The stages this data set goes through, in order."""
    spec = observed.dataset.spec
    return [
        "sample",
        *(("cluster", "histogram", "select") if spec.resampling else ()),
        *(("annotate",) if spec.annotation else ()),
        "card",
        *(("prune",) if _prunes(observed) else ()),
    ]


def _prunes(observed: ObservedDataset) -> bool:
    """Whether there is anything beside the data set to delete, and it is to be."""
    spec = observed.dataset.spec
    return not spec.retain_intermediates and bool(spec.resampling or spec.annotation)


def _steps(observed: ObservedDataset, now: datetime) -> list[Step]:
    held = _held(observed)
    if held or observed.generator is None or observed.budget is None:
        verdict = held or Verdict("Reconciling", "GeneratorNotFound", "")
        step = stages.waiting("sample", verdict.reason, verdict.message)
        return [Step(step.status, verdict, requeue=None)]
    return list(_walk(observed, observed.generator, observed.budget, now))


def _held(observed: ObservedDataset) -> Verdict | None:
    """Why the first stage cannot begin, if it cannot."""
    name = observed.dataset.spec.generator_ref.name
    if observed.generator is None:
        return Verdict(
            "Reconciling",
            "GeneratorNotFound",
            f"PrivateGenerator {name} does not exist in namespace {observed.meta.namespace}.",
        )
    if observed.budget is None:
        budget = observed.generator.generator.spec.budget_ref.name
        return Verdict("Reconciling", "BudgetNotFound", f"PrivacyBudget {budget} does not exist.")
    if not _generator_artifacts(observed.generator):
        return Verdict(
            "Reconciling", "GeneratorNotReady", f"Waiting for PrivateGenerator {name} to be Ready."
        )
    return None


def _generator_artifacts(generator: GeneratorView) -> tuple[ArtifactRef, ...]:
    status = generator.generator.status
    if status is None or status.summary != "Ready":
        return ()
    return tuple(artifact for stage in status.stages for artifact in stage.artifacts)


def _walk(
    observed: ObservedDataset, generator: GeneratorView, budget: BudgetView, now: datetime
) -> Iterator[Step]:
    """Each stage's step, ending with the first that is not done."""
    spec = observed.dataset.spec
    build = DatasetTasks(observed.meta, spec, generator.generator.spec, budget.budget.spec)

    plan = build.sample(_generator_artifacts(generator))
    sample = _public(observed, plan, spec.compute.sample, now)
    yield sample
    if not sample.done:
        return
    pool = sample.artifacts
    sources: dict[str, tuple[ArtifactRef, ...]] = {}
    spare = {"pool": pool}
    instructions = pool

    if spec.resampling:
        resampling = spec.resampling
        records = budget.budget.spec.dataset.records
        clusters = clusters_of(resampling, spec.sampling.count, records)
        plan = build.cluster(pool, resampling.embedder, clusters)
        cluster = _public(observed, plan, None, now)
        yield cluster
        if not cluster.done:
            return
        histogram = _histogram(observed, budget, build, plan, cluster.artifacts, now)
        yield histogram
        if not histogram.settled:
            return
        plan = build.select(pool, cluster.artifacts, histogram.artifacts, resampling.size)
        select = _public(observed, plan, None, now)
        yield replace(select, figures=stages.figures(plan, observed.objects))
        if not select.done:
            return
        instructions = select.artifacts
        sources = {"clusters": cluster.artifacts, "histogram": histogram.artifacts}
        spare["clusters"] = cluster.artifacts

    if spec.annotation:
        if spec.annotation.human and spec.annotation.human.answers is None:
            yield _awaited(observed, instructions)
            return
        files = files_of_dataset(spec)
        private = private_file_refusal(files, observed.private, budget.meta.name)
        if private:
            # Admission refuses it; it may have been away.
            verdict = Verdict("Stalled", "FileIsPrivate", private)
            yield stages.held("annotate", verdict, None)
            return
        annotate = _public(observed, build.annotate(instructions), spec.compute.annotate, now)
        yield annotate
        if not annotate.done:
            return
        sources["data"] = annotate.artifacts
        if spec.resampling:
            spare["selected"] = instructions
    else:
        sources["pool" if len(instructions) > 1 else "data"] = instructions
    card = _public(observed, build.card(sources, budgets.guarantee(budget)), None, now)
    yield card
    if card.done and _prunes(observed):
        yield _public(observed, build.prune(spare), None, now)


def _public(
    observed: ObservedDataset, plan: StagePlan, compute: Compute | None, now: datetime
) -> Step:
    spec = observed.dataset.spec
    return stages.public_stage(
        observed.meta,
        plan,
        compute or spec.compute.default,
        observed.jobs,
        observed.objects,
        observed.settings,
        spec.suspend,
        now,
    )


def _awaited(observed: ObservedDataset, instructions: tuple[ArtifactRef, ...]) -> Step:
    """What people are asked to answer, until spec.annotation.human.answers is given."""
    places = []
    for artifact in instructions:
        manifest = observed.objects.read(observed.dataset.spec.output.storage, artifact.uri)
        if not isinstance(manifest, bytes):
            trouble = manifest or StoreTrouble("ArtifactMissing", f"{artifact.uri} is gone.")
            return stages.store_trouble("annotate", trouble)
        try:
            files = Manifest.model_validate(json.loads(manifest)).files
            path = next(file.path for file in files if file.path.endswith(".jsonl"))
        except (ValueError, StopIteration):
            return _not_a_manifest("annotate", "instructions", artifact.uri)
        places.append(artifact.uri.removesuffix(MANIFEST) + path)
    more = f" and the same file of the other {len(places) - 1} shards" if places[1:] else ""
    message = (
        f"Waiting for people to answer {places[0]}{more}: put rows "
        '{"id", "answer"} as JSONL into the output\'s store and set '
        "spec.annotation.human.answers to its uri and digest."
    )
    return stages.waiting("annotate", "WaitingForAnswers", message, requeue=None)


def _not_a_manifest(stage: str, whose: str, uri: str) -> Step:
    """It lies in the tenant's own store, where anything may be written."""
    message = (
        f"The {whose}' manifest {uri} is none: something else than a stage wrote it. Remove it, "
        "and it is made again."
    )
    return stages.held(stage, Verdict("Stalled", "ManifestInvalid", message), None)


def _histogram(
    observed: ObservedDataset,
    budget: BudgetView,
    build: DatasetTasks,
    clustering: StagePlan,
    clusters: tuple[ArtifactRef, ...],
    now: datetime,
) -> Step:
    refusal = budgets.usable(budget)
    if refusal or not isinstance(budget.ledger, LedgerState):
        verdict = refusal or Verdict("Reconciling", "LedgerUnread", "The journal was not read.")
        step = stages.waiting("histogram", verdict.reason, verdict.message)
        return Step(step.status, verdict, requeue=step.requeue)
    manifest = observed.objects.read(clustering.storage, clusters[0].uri)
    if not isinstance(manifest, bytes):
        trouble = manifest or StoreTrouble("ArtifactMissing", "The clusters' manifest is gone.")
        return stages.store_trouble("histogram", trouble)
    try:
        centroids = Manifest.model_validate(json.loads(manifest)).file(CENTROIDS)
    except (ValueError, KeyError):
        return _not_a_manifest("histogram", "clusters", clusters[0].uri)
    stage = _histogram_stage(observed, budget, build, centroids.digest, now)
    inbox = build.inbox(centroids.digest)
    releases = budget.budget.spec.releases.storage
    there = observed.objects.exists(releases, inbox)
    if isinstance(there, StoreTrouble):
        return stages.store_trouble("histogram", there)
    if not there:
        step = stages.waiting(
            "histogram",
            "CarryingCentroids",
            "The centroids are being carried to the releases.",
            0.2,
        )
        relay = Relay(
            source=clustering.storage,
            source_uri=clustering.task.output.uri + centroids.path,
            digest=centroids.digest,
            target=releases,
            target_uri=inbox,
        )
        return Step(step.status, step.verdict, relays=(relay,), requeue=step.requeue)
    return private_stage(stage, budget.ledger, observed.jobs, observed.objects)


def _histogram_stage(
    observed: ObservedDataset,
    budget: BudgetView,
    build: DatasetTasks,
    centroids: str,
    now: datetime,
) -> PrivateStage:
    spec, status = observed.dataset.spec, observed.dataset.status
    if spec.resampling is None:
        raise ValueError("spec.resampling is not given")
    plan = build.histogram(centroids, spec.resampling.embedder, spec.resampling.noise_multiplier)
    charge = plan.task.charge
    if charge is None:
        raise ValueError("a histogram is always charged")
    return PrivateStage(
        meta=observed.meta,
        plan=plan,
        charge=charge,
        mechanism=price_histogram(spec.resampling),
        restarts=tasks.HISTOGRAM_RESTARTS,
        block_steps=1,
        budget=budget.budget.spec,
        budget_name=budget.meta.name,
        compute=spec.compute.custody(),
        settings=observed.settings,
        keys=observed.keys,
        suspend=spec.suspend,
        refused=_refused(observed, budget),
        before=standing(status.conditions, observed.meta.generation) if status else "",
        now=now,
    )


def _refused(observed: ObservedDataset, budget: BudgetView) -> Verdict | None:
    """What admission refuses, refused again here: it may have been away, or the terms changed."""
    spec, paying, name = observed.dataset.spec, budget.budget.spec, budget.meta.name
    if spec.resampling is None:
        return None
    for reason, message in (
        (budgets.LIMIT_BELOW_SPENT, budgets.below_spent(budget)),
        (
            "NamespaceNotAllowed",
            namespace_refusal(paying, name, observed.meta.namespace, budget.tenant),
        ),
        (
            "ModelNotAllowed",
            model_refusal(paying, name, "spec.resampling.embedder", spec.resampling.embedder),
        ),
        (
            "PlacementNotAllowed",
            placement_refusal(
                paying.custodian.compute, spec.compute.custody(), spec.compute.custody_field
            ),
        ),
    ):
        if message:
            return Verdict("Stalled", reason, message)
    return None
