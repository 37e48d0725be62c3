"""Plays the steps of a sequence: the users, the custodian, the kubelet and the stages in pods."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from integration.reconcile import troubles
from integration.reconcile.books import Facts
from integration.reconcile.ground import Ground
from integration.reconcile.harness import Json, task_of
from integration.reconcile.kube import jobs_in, live_job, live_pod, ours, pods_in
from integration.reconcile.sequences import Step, Target
from palimpsest.api.outcomes import EXIT_CODES, MESSAGES, Outcome
from palimpsest.api.task import ChargeRef, TrainParameters
from palimpsest.ledger.errors import LedgerError
from palimpsest.ledger.journal import Journal
from palimpsest.reconcile.jobs import LABEL_ATTEMPT, LABEL_KIND, LABEL_NAME, LABEL_NAMESPACE

# As a stage's work: what it publishes.
FILES: dict[str, dict[str, bytes]] = {
    "train": {"adapter_model.safetensors": b"adapter"},
    "sample": {"instructions.jsonl": b"{}"},
    "cluster": {"centroids.safetensors": b"centroids", "assignments.jsonl": b"{}"},
    "histogram": {"histogram.json": b"{}"},
    "select": {"selected.jsonl": b"{}"},
    "annotate": {"annotated.jsonl": b"{}"},
    "card": {"data.jsonl": b"{}"},
    "sft": {"model.safetensors": b"model"},
}
OUTCOMES = {
    "is interrupted": Outcome.INTERRUPTED,
    "is disrupted": Outcome.INTERRUPTED,
    "fails by its program": Outcome.INTERNAL_ERROR,
    "runs out of memory": Outcome.OUT_OF_RESOURCES,
}
# Outside custody the Job controller makes another pod, ten seconds later.
RETRIED = ("is interrupted", "is disrupted")
POD_SECONDS = 1.0
GONE_SECONDS = 3.0
MOMENT = "2026-01-01T00:00:00Z"


class Player:
    """One sequence's hands. `facts` is what it alone knows."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._kube = ground.kube
        self._begun: set[str] = set()
        self._charges: dict[Target, tuple[ChargeRef, int]] = {}
        self.facts = Facts()

    def play(self, step: Step) -> str:
        """Do it; what came of it, where that is not certain."""
        match step.action:
            case "create":
                return self._create(step.target)
            case "delete":
                return "" if self._delete(step.target) else "was not there"
            case "delete and create again":
                self._delete(step.target)
                return self._create(step.target)
            case "suspend" | "resume":
                return self._change(step.target, {"suspend": step.action == "suspend"})
            case "give memory":
                return self._memory(step)
            case "annotate":
                return self.look_at(step.target)
            case "the pod of":
                return self._pod(step)
            case "delete the Job of":
                return self._delete_job(step.target)
            case "a lost pod starts":
                return self._lost(step.target)
            case _:
                return self._around(step)

    def look_at(self, target: Target) -> str:
        """Change an annotation: the operator looks at it again."""
        kind, name = target
        note = {"metadata": {"annotations": {"look": str(time.time_ns())}}}
        namespace = "" if kind == "PrivacyBudget" else self._ground.tenant
        return "" if self._kube.patch(ours(kind, namespace, name), note) else "was not there"

    def remember(self, job: Json) -> None:
        """A Job in custody: its pod may come back when nobody expects it."""
        task = task_of(job)
        if task.charge is not None:
            target = task.subject.kind, task.subject.name
            self._charges[target] = task.charge, int(job["metadata"]["labels"][LABEL_ATTEMPT])

    def succeed_all(self) -> int:
        """Let every pod there is end well; how many did."""
        ended = 0
        for namespace in (self._ground.custody, self._ground.tenant):
            pods = self._kube.items(pods_in(namespace))
            for job in self._kube.items(jobs_in(namespace)):
                mine = _pods_of(job, pods)
                if live_job(job) and mine and "deletionTimestamp" not in job["metadata"]:
                    self._end(job, mine, "succeeds", 3)
                    ended += 1
        return ended

    # -- users and custodian -----------------------------------------------------------------

    def _create(self, target: Target) -> str:
        kind, name = target
        made = self._kube.create(
            ours(kind, self._ground.tenant), self._ground.manifest(target)
        ) or self._until(
            lambda: (
                self._kube.create(ours(kind, self._ground.tenant), self._ground.manifest(target))
                if self._gone(kind, name)
                else not self._leaving(kind, name)
            )
        )
        return "" if made else "the one before was not gone yet"

    def _gone(self, kind: str, name: str) -> bool:
        return self._kube.get(ours(kind, self._ground.tenant, name)) is None

    def _leaving(self, kind: str, name: str) -> bool:
        found = self._kube.get(ours(kind, self._ground.tenant, name)) or {"metadata": {}}
        return "deletionTimestamp" in found["metadata"]

    def _delete(self, target: Target) -> bool:
        kind, name = target
        return self._kube.delete(ours(kind, self._ground.tenant, name))

    def _change(self, target: Target, spec: Json) -> str:
        kind, name = target
        path = ours(kind, self._ground.tenant, name)
        return "" if self._kube.patch(path, {"spec": spec}) else "was not there"

    def _memory(self, step: Step) -> str:
        given = {"resources": {"limits": {"memory": f"{step.number}Gi"}}}
        whole = {"default": given} if step.target[0] == "SyntheticDataset" else given
        return self._change(step.target, {"compute": whole})

    def _around(self, step: Step) -> str:
        ground = self._ground
        match step.action:
            case "revoke custody":
                self._label(None)
            case "grant custody":
                self._label("granted")
            case "let the tenant out":
                self._budget({"allowedNamespaces": {"names": []}})
            case "let the tenant in":
                self._budget({"allowedNamespaces": {"names": [ground.tenant]}})
            case "lower the limit":
                self._budget({"limit": {"epsilon": step.word}})
            case "kill the operator":
                ground.operators.kill()
            case "roll the operator over":
                ground.operators.roll()
            case "watches are cut":
                ground.site.api.cut()
            case "watches are gone":
                ground.misbehave(troubles.gone_watches())
                ground.site.api.cut()
            case "the API":
                ground.misbehave(troubles.of_api(step.word, step.number))
            case "the store":
                ground.site.between.watch(troubles.of_store(step.word, step.number))
            case unknown:
                raise ValueError(f"nobody plays {unknown!r}")
        return ""

    def heal(self) -> None:
        """What custodian and users took away they give again, and everything is looked at."""
        self._label("granted")
        self._budget({"allowedNamespaces": {"names": [self._ground.tenant]}})
        for target in self.there():
            self._change(target, {"suspend": False})

    def there(self, summary: str = "") -> list[Target]:
        """The resources that are; of one standing alone, where that is given."""
        return [
            (kind, item["metadata"]["name"])
            for kind in ("PrivateGenerator", "SyntheticDataset", "AlignmentRun")
            for item in self._kube.items(ours(kind, self._ground.tenant))
            if summary in ("", (item.get("status") or {}).get("summary"))
        ]

    def _label(self, value: str | None) -> None:
        marked = {"metadata": {"labels": {"palimpsest.dev/custody": value}}}
        self._kube.patch(f"/api/v1/namespaces/{self._ground.custody}", marked)

    def _budget(self, spec: Json) -> None:
        self._kube.patch(ours("PrivacyBudget", "", self._ground.budget), {"spec": spec})

    # -- the kubelet and the stages -----------------------------------------------------------

    def _pod(self, step: Step) -> str:
        found = self._until(lambda: self._working(step.target), POD_SECONDS)
        if not found:
            return "had none"
        job, pods = found
        return self._end(job, pods, step.word, step.number)

    def _working(self, target: Target) -> tuple[Json, list[Json]] | None:
        """A Job of the resource whose pods are there."""
        query = "?labelSelector=" + ",".join(
            f"{label}%3D{value}"
            for label, value in (
                (LABEL_KIND, target[0]),
                (LABEL_NAMESPACE, self._ground.tenant),
                (LABEL_NAME, target[1]),
            )
        )
        for namespace in (self._ground.custody, self._ground.tenant):
            for job in self._kube.items(jobs_in(namespace) + query):
                self.remember(job)
                pods = _pods_of(job, self._kube.items(pods_in(namespace) + query))
                if live_job(job) and "deletionTimestamp" not in job["metadata"] and pods:
                    return job, pods
        return None

    def _end(self, job: Json, pods: list[Json], word: str, number: int) -> str:
        task = task_of(job)
        stage, outcome = task.parameters.stage, OUTCOMES.get(word, Outcome.COMPLETED)
        blocks = 3 if word == "succeeds" else number
        told = f"{stage}, attempt {job['metadata']['labels'][LABEL_ATTEMPT]}"
        if task.charge is None and word in RETRIED:
            return f"{told}: not private, left alone"
        if task.charge is not None and blocks and not self._work(job, pods[0], blocks):
            outcome = Outcome.CHARGE_REFUSED
        elif word == "runs":
            for pod in pods:
                self._tell(pod, {"phase": "Running"})
            return told
        if outcome == Outcome.COMPLETED:
            if task.charge is not None:
                self.facts.published.add(task.charge.id)
            self._ground.publish(job, FILES[stage])
        if word == "is disrupted" and task.charge is not None:
            attempt = int(job["metadata"]["labels"][LABEL_ATTEMPT])
            self.facts.disrupted.add((task.charge.id, attempt))
        for pod in pods:
            self._tell(pod, _ended(pod, outcome, word == "is disrupted"))
        return f"{told}: {outcome.value}"

    def _work(self, job: Json, pod: Json, blocks: int) -> bool:
        """What a private stage writes to the journal; False if that refuses."""
        task, uid = task_of(job), pod["metadata"]["uid"]
        if task.charge is None:
            raise ValueError("only a private stage writes to the journal")
        attempt = int(job["metadata"]["labels"][LABEL_ATTEMPT])
        journal = self._ground.journal()
        try:
            journal.refresh()
            if uid not in self._begun:
                journal.start(task.charge.id, attempt)
                self._begun.add(uid)
            self._blocks(journal, task.charge.id, attempt, task.parameters, blocks)
        except LedgerError:
            return False
        return True

    @staticmethod
    def _blocks(journal: Journal, identity: str, attempt: int, parameters: Any, most: int) -> None:
        """Go on from the last checkpoint, which may repeat the block that was under way."""
        train = isinstance(parameters, TrainParameters)
        steps, total = (parameters.block_steps, 3) if train else (1, 1)
        charge = journal.state.charge(identity)
        upcoming = charge.next_block if charge.next_block is not None else max(0, charge.blocks - 1)
        if not train and charge.next_block is None:
            upcoming = 0
        for block in range(upcoming, min(total, upcoming + most)):
            journal.intent(identity, attempt, block, steps)

    def _tell(self, pod: Json, status: Json) -> None:
        path = pods_in(pod["metadata"]["namespace"], pod["metadata"]["name"])
        self._kube.patch(f"{path}/status", {"status": status})

    def _delete_job(self, target: Target) -> str:
        found = self._until(lambda: self._working(target), POD_SECONDS)
        if not found:
            return "had none"
        meta = found[0]["metadata"]
        # It stays until its pods are gone: what follows meets a Job on its way out.
        self._kube.delete(jobs_in(meta["namespace"], meta["name"]), "Foreground")
        return str(meta["name"])

    def _lost(self, target: Target) -> str:
        """Its start is all that a pod behind a broken network could still bring about."""
        if target not in self._charges:
            return "there was none"
        charge, attempt = self._charges[target]
        journal = self._ground.journal()
        try:
            journal.refresh()
            journal.start(charge.id, attempt)
        except LedgerError:
            return "and is refused"
        return "and is let in"

    @staticmethod
    def _until(found: Callable[[], Any], seconds: float = GONE_SECONDS) -> Any:
        deadline = time.monotonic() + seconds
        while not (answer := found()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return answer


def _pods_of(job: Json, pods: list[Json]) -> list[Json]:
    name = job["metadata"]["name"]
    return [
        pod
        for pod in pods
        if pod["metadata"]["labels"].get("job-name") == name
        and live_pod(pod)
        and "deletionTimestamp" not in pod["metadata"]
    ]


def _ended(pod: Json, outcome: Outcome, disrupted: bool) -> Json:
    code = EXIT_CODES[outcome]
    told = list((pod.get("status") or {}).get("conditions") or [])
    if disrupted:
        reason = "EvictionByEvictionAPI"
        told.append({"type": "DisruptionTarget", "status": "True", "reason": reason})
    message = json.dumps({"outcome": outcome.value, "message": MESSAGES[outcome]})
    end = {"exitCode": code, "message": message, "startedAt": MOMENT, "finishedAt": MOMENT}
    container = {"name": "stage", "image": "stage", "imageID": "", "ready": False}
    return {
        "phase": "Failed" if code else "Succeeded",
        "conditions": told,
        "containerStatuses": [{**container, "restartCount": 0, "state": {"terminated": end}}],
    }
