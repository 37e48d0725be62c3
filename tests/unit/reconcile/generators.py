"""A generator that is reconciled against a journal in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from palimpsest.api.audit import AuditResult
from palimpsest.api.budget import PrivacyBudget
from palimpsest.api.generator import PrivateGenerator
from palimpsest.api.manifest import File, Manifest
from palimpsest.api.outcomes import Outcome
from palimpsest.api.task import canonical_json, sha256_digest
from palimpsest.ledger import Journal, Subject
from palimpsest.privacy.audits import judge
from palimpsest.reconcile.charges import PrivateStage
from palimpsest.reconcile.generator import reconcile, train_stage
from palimpsest.reconcile.observed import (
    Job,
    Look,
    Meta,
    NotObservedError,
    Objects,
    ObservedGenerator,
    Pod,
    ReceiptKeys,
    Settings,
    StoreTrouble,
)
from palimpsest.reconcile.plan import CreateJob, Plan
from unit.reconcile.budgets import DIGEST, ENDPOINT, budget, view
from unit.reconcile.failed import failed

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
Answers = dict[str, bytes | StoreTrouble]


def paying() -> PrivacyBudget:
    known = budget()
    names = known.spec.allowed_namespaces.model_copy(update={"names": ["team-a"]})
    spec = known.spec.model_copy(update={"allowed_namespaces": names})
    return known.model_copy(update={"spec": spec})


def generator(canaries: int = 600, status: Any = None, **audit: Any) -> PrivateGenerator:
    """Epsilon 3 of 24 steps at rate 256/15,000: takes 525 canaries."""
    return PrivateGenerator.model_validate(
        {
            "spec": {
                "budgetRef": {"name": "chat"},
                "privacy": {"epsilon": "3"},
                "baseModel": {"uri": "s3://models/tiny/", "digest": DIGEST},
                "audit": {"canaries": canaries, **audit},
            },
            "status": status,
        }
    )


@dataclass
class World:
    """A generator, its journal, and stores that answer from a dictionary."""

    journal: Journal
    known: PrivateGenerator

    def observed(
        self, answers: Mapping[str, bytes | StoreTrouble] | None = None, jobs: tuple[Job, ...] = ()
    ) -> ObservedGenerator:
        return ObservedGenerator(
            meta=Meta("PrivateGenerator", "team-a", "generator", "uid", 1, deleting=False),
            generator=self.known,
            budget=view(paying(), self.journal.state),
            jobs=jobs,
            objects=Objects(
                {Look(ENDPOINT, uri): answer for uri, answer in (answers or {}).items()}
            ),
            settings=Settings("image", "one"),
            keys=ReceiptKeys(),
        )

    @property
    def stage(self) -> PrivateStage:
        observed = self.observed()
        assert observed.budget is not None
        return train_stage(observed, observed.budget, NOW)

    def reconciled(self, answers: Answers | None = None, jobs: tuple[Job, ...] = ()) -> Plan:
        """The plan; what the answers do not name is absent."""
        observed = self.observed(answers, jobs)
        while True:
            try:
                return reconcile(observed, NOW)
            except NotObservedError as error:
                known = {**observed.objects.answers, error.look: None}
                observed = replace(observed, objects=Objects(known))

    def reserved(self) -> World:
        """With a reservation."""
        stage = self.stage
        owner = Subject(
            namespace="team-a", kind="PrivateGenerator", name="generator", cluster="one"
        )
        charge = self.journal.reserve(
            owner, stage.plan.digest, stage.mechanism, stage.restarts, stage.block_steps
        )
        assert charge.id == stage.charge.id
        return self

    def begun(self) -> World:
        """Reserved, started, and all its blocks intended."""
        charge = self.reserved().stage.charge.id
        self.journal.start(charge, 1)
        for block in range(3):
            self.journal.intent(charge, 1, block, 8)
        return self

    def settled(self, basis: Any) -> World:
        self.journal.commit(self.stage.charge.id, basis)
        return self

    def job(self, outcome: Outcome) -> Job:
        """The first attempt's, ended."""
        asked = self.stage.create(1)
        assert isinstance(asked, CreateJob)
        return failed(
            namespace="custody",
            name=asked.manifest["metadata"]["name"],
            ended_at=NOW,
            pods=(Pod("p", "Failed", outcome, None),),
        )

    def result(self, correct: int) -> AuditResult:
        audit = self.stage.plan.task.parameters
        assert audit.stage == "train"
        assert audit.audit is not None
        return judge(audit.audit, correct)

    def published(self, result: AuditResult, also: bytes = b"") -> Answers:
        """The releases with a manifest and an audit.json."""
        plan = self.stage.plan
        data = canonical_json(result.model_dump(by_alias=True))
        manifest = Manifest(
            subject=plan.task.subject,
            task=plan.digest,
            parameters=plan.task.parameters,
            inputs=plan.task.inputs,
            files=[File(path="attempts/1-p/audit.json", digest=sha256_digest(data), size=9)],
            charge=self.stage.charge.id,
            attempt="1-p",
        )
        prefix = plan.task.output.uri
        return {
            plan.manifests[0]: canonical_json(manifest.model_dump(by_alias=True, mode="json")),
            f"{prefix}attempts/1-p/audit.json": data + also,
        }
