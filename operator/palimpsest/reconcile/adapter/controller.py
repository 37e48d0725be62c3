"""Observe, decide, act: the one place where a plan's parts are executed, in their order."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from kubernetes.client.exceptions import ApiException

from palimpsest.api.alignment import AlignmentRun
from palimpsest.api.budget import PrivacyBudget
from palimpsest.api.dataset import SyntheticDataset
from palimpsest.api.generator import PrivateGenerator
from palimpsest.ledger.errors import Denied, LedgerError
from palimpsest.ledger.state import Head, LedgerState
from palimpsest.receipts import KeyUnusable, ReceiptInvalid
from palimpsest.reconcile import alignment, budget, conditions, dataset, generator, measures
from palimpsest.reconcile.adapter import events
from palimpsest.reconcile.adapter.cluster import Cluster, ConflictError
from palimpsest.reconcile.adapter.counting import AttemptCounter
from palimpsest.reconcile.adapter.ledgers import Ledgers
from palimpsest.reconcile.adapter.receipts import Receipts
from palimpsest.reconcile.adapter.resources import parse
from palimpsest.reconcile.adapter.stores import Stores
from palimpsest.reconcile.adapter.tracing import Roots, stage_ended, trace_of
from palimpsest.reconcile.jobs import LABEL_STAGE
from palimpsest.reconcile.observed import (
    BudgetView,
    Custody,
    DatasetView,
    GeneratorView,
    Job,
    Look,
    Meta,
    NotObservedError,
    Objects,
    ObservedAlignment,
    ObservedBudget,
    ObservedDataset,
    ObservedGenerator,
    Settings,
    StoreTrouble,
)
from palimpsest.reconcile.plan import (
    FINALIZER,
    ChildAction,
    CreateService,
    DeleteJob,
    LedgerAction,
    Open,
    Plan,
    Reserve,
    SignReceipt,
)
from palimpsest.reconcile.policies import blockage
from palimpsest.reconcile.policies.deletion import ABANDON
from palimpsest.storage import StoreError
from palimpsest.telemetry import budgets, logs, resources, stages, traces, workers
from palimpsest.telemetry.acts import act, tell
from palimpsest.terms.files import files_of_dataset, files_of_run

CUSTODY_LABEL = "palimpsest.dev/custody"
# The one stage of each kind that is charged.
_PRIVATE_STAGE = {PrivateGenerator.kind: "train", SyntheticDataset.kind: "histogram"}
SOON = 0.2
AT_ONCE = 0.001
LOOKS_AT_MOST = 512
REFUSED_SECONDS = 30.0


@dataclass(frozen=True)
class Key:
    """A resource to reconcile."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace + '/' if self.namespace else ''}{self.name}"


Decide = Callable[[BudgetView | None, Objects, datetime], Plan]


@dataclass(frozen=True)
class Observation:
    """What to ask for a plan, who pays, the Jobs that were seen, and what it is made from."""

    decide: Decide
    paying: BudgetView | None = None
    jobs: tuple[Job, ...] = ()
    source: Meta | None = None


class Wake(Protocol):
    """Make a key due after `delay` seconds."""

    def __call__(self, key: Key, delay: float = 0.0) -> None: ...


class Controller:
    """Reconciles one key at a time; holds no state that a restart would miss, but for metrics."""

    def __init__(
        self,
        cluster: Cluster,
        stores: Stores,
        ledgers: Ledgers,
        receipts: Receipts,
        settings: Settings,
        wake: Wake,
    ) -> None:
        self._cluster = cluster
        self._stores = stores
        self._ledgers = ledgers
        self._receipts = receipts
        self._settings = settings
        self._wake = wake
        self._attempts = AttemptCounter()
        self._roots = Roots()
        # The journal's head that each budget's metrics are of.
        self._told: dict[str, Head | None] = {}

    def reconcile(self, key: Key) -> float | None:
        """One pass; returns seconds until the next one is due, or None."""
        logs.bind(kind=key.kind, namespace=key.namespace, name=key.name)
        with workers.reconcile(key.kind) as told:
            delay = self._once(key)
            told("success" if delay is None else "requeue_after" if delay > SOON else "requeue")
            return delay

    def _once(self, key: Key) -> float | None:
        current = self._cluster.resource(key.kind, key.namespace, key.name)
        if current is None:
            gone = resources.Object(key.kind, key.namespace, key.name)
            resources.forget(gone)
            self._attempts.forget(gone)
            self._roots.forget(gone)
            if key.kind == PrivacyBudget.kind:
                budgets.forget(key.name)
                self._told.pop(key.name, None)
            self._wake_dependents(key)
            return None
        meta = _meta(key.kind, current)
        trace = trace_of(meta)
        if traces.enabled():
            meta = replace(meta, trace_id=trace.hex)
        logs.bind(uid=meta.uid, trace_id=meta.trace_id)
        with traces.reconcile(trace):
            try:
                return self._pass(meta, current)
            except ConflictError:
                return SOON

    def _pass(self, meta: Meta, current: dict[str, Any]) -> float | None:
        seen = self._observe(meta, current)
        decide, paying = seen.decide, seen.paying
        plan = self._decide(decide, paying)
        held = self._held(meta, current, plan)
        if held is None:
            return None
        charged = self._charge(meta, plan, paying)
        if charged is not None and all(isinstance(action, Reserve) for action in plan.ledger):
            # What it is for follows at once, and the status then speaks of that. The Jobs were
            # seen before the reservation: no other than we makes one, and none twice.
            paying = charged
            plan = self._decide(decide, paying)
            if plan.ledger or plan.witnesses:
                return AT_ONCE
        return self._execute(meta, held, plan, replace(seen, paying=paying), charged is not None)

    def _observe(self, meta: Meta, current: dict[str, Any]) -> Observation:
        """What the pure function is asked of, but for the journal's state; and who pays."""
        if meta.kind == PrivacyBudget.kind:
            view = self._budget_of(current)
            return Observation(
                lambda _, objects, now: budget.reconcile(ObservedBudget(view, objects), now), view
            )
        if meta.kind == PrivateGenerator.kind:
            resource = parse(PrivateGenerator, current)
            paying = self._budget(resource.spec.budget_ref.name, meta.namespace)
            jobs = self._jobs(meta, paying, own=False)
            keys = self._receipts.keys()
            return Observation(
                lambda payer, objects, now: generator.reconcile(
                    ObservedGenerator(meta, resource, payer, jobs, objects, self._settings, keys),
                    now,
                ),
                paying,
                jobs,
                paying.meta if paying else None,
            )
        if meta.kind == SyntheticDataset.kind:
            synthetic = parse(SyntheticDataset, current)
            source = self._generator(meta.namespace, synthetic.spec.generator_ref.name)
            paying = self._payer(synthetic, source, meta.namespace)
            children = self._jobs(meta, paying, own=True)
            known = self._receipts.keys()
            answers = self._private(files_of_dataset(synthetic.spec))
            return Observation(
                lambda payer, objects, now: dataset.reconcile(
                    ObservedDataset(
                        meta,
                        synthetic,
                        source,
                        payer,
                        children,
                        objects,
                        self._settings,
                        known,
                        answers,
                    ),
                    now,
                ),
                paying,
                children,
                source.meta if source else None,
            )
        run = parse(AlignmentRun, current)
        data = self._dataset(meta.namespace, run.spec.dataset_ref.name)
        budgeted = self._payer_of(data)
        own = self._jobs(meta, None, own=True)
        private = self._private(files_of_run(run.spec))
        return Observation(
            lambda _, objects, now: alignment.reconcile(
                ObservedAlignment(meta, run, data, budgeted, own, objects, self._settings, private),
                now,
            ),
            jobs=own,
            source=data.meta if data else None,
        )

    def _decide(self, decide: Decide, paying: BudgetView | None) -> Plan:
        """Call the pure function, answering its questions until it has a plan."""
        answers: dict[Look, bytes | StoreTrouble | None] = {}
        for _ in range(LOOKS_AT_MOST):
            try:
                return decide(paying, Objects(answers), datetime.now(UTC))
            except NotObservedError as question:
                answers[question.look] = self._stores.look(question.look)
        raise RuntimeError("a reconcile asked for too many objects")

    def _execute(
        self,
        meta: Meta,
        current: dict[str, Any],
        plan: Plan,
        seen: Observation,
        acted: bool,
    ) -> float | None:
        status, refusals = plan.status, list[tuple[str, str]]()
        for relay in plan.relays:
            with act("relay") as made:
                trouble = self._stores.relay(relay)
                made.done = trouble is None
            acted = True
            if trouble:
                refusals.append((trouble.reason, trouble.message))
        for child in plan.children:
            if denied := self._child(meta, child):
                refusals.append(denied)
        if status is not None:
            for reason, message in refusals:
                status = conditions.refused(status, reason, message, datetime.now(UTC))
            self._cluster.write_status(meta.kind, current, status)
            # Afterwards: what is woken reads it.
            self._announce(meta, current, status)
        self._measure(meta, current, status, seen)
        if refusals and status is not None:
            return REFUSED_SECONDS
        for receipt in plan.receipts:
            # After the status: the accountants take their time, and it says what goes on.
            self._sign(meta, seen.paying, receipt)
            acted = True
        if not plan.finalizer and FINALIZER in meta.finalizers:
            fresh = self._cluster.resource(meta.kind, meta.namespace, meta.name)
            if fresh is not None and fresh["metadata"]["uid"] == meta.uid:
                # Others' may have come since.
                found = fresh["metadata"].get("finalizers", ())
                kept = [each for each in found if each != FINALIZER]
                self._cluster.write_finalizers(meta.kind, fresh, kept)
        if acted:
            return SOON
        return plan.requeue

    def _measure(
        self,
        meta: Meta,
        current: dict[str, Any],
        status: dict[str, Any] | None,
        seen: Observation,
    ) -> None:
        """Where it stands, and which attempts ended: each is told of once, as the status is."""
        thing = resources.Object(meta.kind, meta.namespace, meta.name)
        if status is None:
            resources.observe(thing, "Terminating", {}, {})
            return
        resources.observe(
            thing, measures.standing(status), measures.progress(status), measures.figures(status)
        )
        trace = trace_of(meta)
        for attempt in measures.ended(current.get("status") or {}, status, seen.jobs):
            if self._attempts.count(thing, attempt):
                tell(
                    "stage ended",
                    stage=attempt.stage,
                    job=attempt.job,
                    charge=attempt.charge,
                    outcome=attempt.reason or "Completed",
                )
                stage_ended(trace, attempt)
        links = (trace_of(seen.source),) if seen.source else ()
        self._roots.observe(thing, trace, current, status, links)

    def _held(self, meta: Meta, current: dict[str, Any], plan: Plan) -> dict[str, Any] | None:
        """The resource with our finalizer where the plan wants it; None if it is gone.

        Before anything is spent, so that a deletion always passes by us.
        """
        if not plan.finalizer or FINALIZER in meta.finalizers or meta.deleting:
            return current
        return self._cluster.write_finalizers(meta.kind, current, [*meta.finalizers, FINALIZER])

    def _charge(self, meta: Meta, plan: Plan, paying: BudgetView | None) -> BudgetView | None:
        """What the plan asks of the journal; the budget after it, if all of it was written."""
        if paying is None or not (plan.ledger or plan.witnesses):
            return None
        charged: BudgetView | None = None
        denied = False
        for action in plan.ledger:
            try:
                with act(type(action).__name__.lower(), **_charged(meta, action)):
                    charged = replace(paying, ledger=self._ledgers.execute(paying.budget, action))
            except Denied as denial:
                denied = True
                events.record(self._cluster, meta, True, "BudgetExceeded", str(denial))
            except (LedgerError, StoreError) as error:
                events.record(self._cluster, meta, True, "LedgerRefused", str(error))
                raise
        for head in plan.witnesses:
            self._ledgers.witness(paying.budget, head)
        # What was paid for goes before the budget's own figures.
        self._wake(Key(PrivacyBudget.kind, "", paying.meta.name), SOON)
        return None if denied else charged

    def _sign(self, meta: Meta, paying: BudgetView | None, receipt: SignReceipt) -> None:
        if paying is None or not isinstance(paying.ledger, LedgerState):
            return
        try:
            with act("sign receipt", stage=_PRIVATE_STAGE[meta.kind], charge=receipt.charge):
                self._receipts.issue(paying.meta.name, paying.ledger, receipt)
        except (ReceiptInvalid, KeyUnusable, StoreError) as error:
            events.record(self._cluster, meta, True, "ReceiptNotWritten", str(error))
            raise

    def _child(self, meta: Meta, child: ChildAction) -> tuple[str, str] | None:
        """Make or delete it; why the API server refuses to make it, if it does."""
        if isinstance(child, DeleteJob):
            try:
                with act("delete job", job=child.name):
                    self._cluster.delete_job(child.namespace, child.name)
            except ApiException as error:
                # A resource that is let go whatever happens does not wait for rights.
                if not (meta.abandoned and error.status == 403):
                    raise
            return None
        kind, name = child.manifest["kind"], child.manifest["metadata"]["name"]
        try:
            if isinstance(child, CreateService):
                self._cluster.create_service(child.manifest)
                return None
            stage = child.manifest["metadata"]["labels"][LABEL_STAGE]
            with act("create job", stage=stage, job=name) as made:
                made.done = self._cluster.create_job(child.manifest)
            if made.done:
                stages.attempted(stage)
                events.record(self._cluster, meta, False, "JobCreated", f"Created Job {name}.")
        except ApiException as error:
            if error.status not in (403, 422):
                raise
            reason, message = blockage.refusal(_message(error))
            return reason, f"{kind} {name} was refused: {message}"
        return None

    def _announce(self, meta: Meta, current: dict[str, Any], status: dict[str, Any]) -> None:
        """An Event when the standing changed, and a nudge to what waits for it.

        A nudge too when the spec did: other terms of a budget may be what was waited for.
        """
        before = current.get("status", {})
        moved = before.get("summary") != status["summary"]
        if moved:
            told = status["conditions"]
            ready = next(item for item in told if item["type"] == "Ready")
            stalled = any(item["type"] == "Stalled" and item["status"] == "True" for item in told)
            tell("standing", standing=measures.standing(status), reason=ready["reason"])
            events.record(self._cluster, meta, stalled, ready["reason"], ready["message"])
        if moved or before.get("observedGeneration") != status["observedGeneration"]:
            self._wake_dependents(Key(meta.kind, meta.namespace, meta.name))

    def _wake_dependents(self, key: Key) -> None:
        """What waits for another resource does not poll: it is told."""
        references = {
            PrivacyBudget.kind: ((PrivateGenerator.kind, "budgetRef"),),
            PrivateGenerator.kind: ((SyntheticDataset.kind, "generatorRef"),),
            SyntheticDataset.kind: ((AlignmentRun.kind, "datasetRef"),),
        }
        for kind, field in references.get(key.kind, ()):
            for item in self._cluster.resources(kind):
                namespace = item["metadata"]["namespace"]
                named = item["spec"].get(field, {}).get("name") == key.name
                if named and key.namespace in ("", namespace):
                    self._wake(Key(kind, namespace, item["metadata"]["name"]))

    def _budget(self, name: str, namespace: str) -> BudgetView | None:
        current = self._cluster.resource(PrivacyBudget.kind, "", name)
        if current is None:
            return None
        if not current["spec"].get("allowedNamespaces", {}).get("selector"):
            return self._budget_of(current)
        tenant = self._cluster.get(f"/api/v1/namespaces/{namespace}") or {"metadata": {}}
        return self._budget_of(current, tenant["metadata"].get("labels") or {})

    def _budget_of(
        self, current: dict[str, Any], tenant: Mapping[str, str] | None = None
    ) -> BudgetView:
        resource = parse(PrivacyBudget, current)
        state = self._ledgers.state(resource)
        name = current["metadata"]["name"]
        if isinstance(state, LedgerState) or state.unsound:
            budgets.observe_ledger(name, isinstance(state, LedgerState))
        if isinstance(state, LedgerState) and state.is_open and self._told.get(name) != state.head:
            # Every charge is looked at; what did not change was told already.
            budgets.observe(name, measures.spending(state))
            self._told[name] = state.head
        return BudgetView(
            meta=_meta(PrivacyBudget.kind, current),
            budget=resource,
            custody=self._custody(resource.spec.custodian.namespace),
            ledger=state,
            tenant=tenant or {},
        )

    def _custody(self, namespace: str) -> Custody:
        found = self._cluster.get(f"/api/v1/namespaces/{namespace}")
        if found is None:
            return Custody(False, f"the custodian's namespace {namespace} does not exist")
        if found["metadata"].get("labels", {}).get(CUSTODY_LABEL) != "granted":
            return Custody(
                False,
                f"the custodian's namespace {namespace} lacks the label {CUSTODY_LABEL}=granted",
            )
        return Custody(True)

    def _payer(
        self, resource: SyntheticDataset, source: GeneratorView | None, namespace: str
    ) -> BudgetView | None:
        """The generator's budget; the one remembered, where the generator is gone."""
        if source is not None:
            return self._budget(source.generator.spec.budget_ref.name, namespace)
        remembered = resource.status.budget if resource.status else ""
        return self._budget(remembered, namespace) if remembered else None

    def _private(self, files: Mapping[str, str]) -> dict[str, str]:
        """Where private data lies, by the budgets' names; nobody asks who names no file."""
        if not files:
            return {}
        found = self._cluster.resources(PrivacyBudget.kind)
        return {each["metadata"]["name"]: each["spec"]["dataset"]["uri"] for each in found}

    def _payer_of(self, data: DatasetView | None) -> BudgetView | None:
        """The budget that a data set was made under."""
        if data is None:
            return None
        source = self._generator(data.meta.namespace, data.dataset.spec.generator_ref.name)
        return self._payer(data.dataset, source, data.meta.namespace)

    def _generator(self, namespace: str, name: str) -> GeneratorView | None:
        current = self._cluster.resource(PrivateGenerator.kind, namespace, name)
        if current is None:
            return None
        return GeneratorView(
            _meta(PrivateGenerator.kind, current),
            parse(PrivateGenerator, current),
        )

    def _dataset(self, namespace: str, name: str) -> DatasetView | None:
        current = self._cluster.resource(SyntheticDataset.kind, namespace, name)
        if current is None:
            return None
        return DatasetView(
            _meta(SyntheticDataset.kind, current),
            parse(SyntheticDataset, current),
        )

    def _jobs(self, meta: Meta, paying: BudgetView | None, own: bool) -> tuple[Job, ...]:
        if meta.deleting:
            # Wherever they are: the budget that named their namespace may be gone.
            return self._cluster.jobs(meta, None)
        found = self._cluster.jobs(meta, meta.namespace) if own else ()
        if paying is not None and paying.custody.granted:
            custody = paying.budget.spec.custodian.namespace
            if not (own and custody == meta.namespace):
                found += self._cluster.jobs(meta, custody)
        return found


def _meta(kind: str, current: dict[str, Any]) -> Meta:
    metadata = current["metadata"]
    return Meta(
        kind=kind,
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 1),
        deleting=bool(metadata.get("deletionTimestamp")),
        finalizers=tuple(metadata.get("finalizers", ())),
        abandoned=(metadata.get("annotations") or {}).get(ABANDON) == "true",
    )


def _charged(meta: Meta, action: LedgerAction) -> dict[str, str]:
    """Which stage's charge is meant; opening a journal is of none."""
    if isinstance(action, Open):
        return {}
    return {"stage": _PRIVATE_STAGE[meta.kind], "charge": action.charge}


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body or "{}").get("message", error.reason))[:512]
    except ValueError:
        return str(error.reason)
