"""Looks at the journal and the API server past the operator, and says what is wrong.

What is read first may be older than what is read last: each rule says which order it needs.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from integration.reconcile.books import Books, Line
from integration.reconcile.ground import Ground
from integration.reconcile.harness import Json, task_of
from integration.reconcile.kube import jobs_in, live_job, live_pod, ours, pods_in
from integration.reconcile.player import Player
from palimpsest.api.budget import PrivacyBudgetSpec, PrivacyBudgetStatus
from palimpsest.audit.findings import Code
from palimpsest.audit.journal import Replay
from palimpsest.audit.status import audit_status

PRIVATE = ("train", "histogram")
RANK = {"Reserved": 0, "Started": 1, "Committed": 2}


class Auditor:
    """Of one sequence. `check` raises AssertionError with all that is wrong."""

    def __init__(self, ground: Ground, player: Player) -> None:
        self._ground = ground
        self._kube = ground.kube
        self._player = player
        self.books = Books(ground.store("custodian"), ground.private, player.facts)
        self._wrong: list[str] = []
        self._shown = -1
        self._told: dict[tuple[str, str], str] = {}
        ground.gate = self._asked

    def check(self) -> None:
        """Everything that must always hold."""
        wrong = self._wrong
        self.books.read()
        before = {identity: line.active for identity, line in self.books.lines.items()}
        jobs = self._kube.items(jobs_in(self._ground.custody))
        pods = self._kube.items(pods_in(self._ground.custody))
        outside = self._kube.items(jobs_in(self._ground.tenant))
        budget = self._kube.get(ours("PrivacyBudget", "", self._ground.budget)) or {}
        resources = [
            {**item, "kind": kind}
            for kind in ("PrivateGenerator", "SyntheticDataset")
            for item in self._kube.items(ours(kind, self._ground.tenant))
        ]
        self.books.read()
        for job in jobs:
            self._player.remember(job)
        wrong += self.books.broken
        wrong += self._journal(self.books.replayed(), budget)
        wrong += self._custody(jobs, pods, before)
        wrong += [
            f"Job {job['metadata']['name']} of a private stage in the tenant's namespace"
            for job in outside
            if job["metadata"]["labels"].get("palimpsest.dev/stage") in PRIVATE
        ]
        for resource in resources:
            wrong += self._status(resource)
        assert not wrong, "\n".join(dict.fromkeys(wrong))

    def _asked(self, job: Json) -> None:
        """The moment a Job is asked for in custody: its reservation stands already."""
        charge = task_of(job).charge
        name = job["metadata"]["name"]
        if charge is None:
            self._wrong.append(f"Job {name} in custody without a charge")
            return
        self.books.read()
        line = self.books.line(charge.id)
        if line is None or not line.active:
            state = line.state if line else "not there"
            self._wrong.append(f"Job {name} asked for while its charge is {state}")

    def _journal(self, replayed: Replay, budget: Json) -> list[str]:
        """The entries follow the rules and never promise more than the limit; the budget agrees."""
        wrong = [finding.line() for finding in replayed.findings if finding.code != Code.J009]
        for number, moment in enumerate(replayed.moments):
            state = moment.state
            if state.committed + state.reserved > state.limit_units:
                wrong.append(f"entry {number}: more is given out than the limit")
        if not replayed.moments or "status" not in budget:
            return wrong
        if (replayed.state.committed, replayed.state.reserved) != (
            self.books.committed,
            self.books.reserved,
        ):
            wrong.append("the replay and the auditor's sums differ")
        status = PrivacyBudgetStatus.model_validate(budget["status"])
        shown = status.head.sequence if status.head else -1
        if shown < self._shown:
            wrong.append(f"the budget went back from entry {self._shown} to {shown}")
        self._shown = max(shown, self._shown)
        spec = PrivacyBudgetSpec.model_validate(budget["spec"])
        found = audit_status(spec, status, replayed, "of the sequence", "the journal")
        # The limit may be lowered faster than the journal is.
        return wrong + [each.line() for each in found if each.code not in (Code.S002, Code.S003)]

    def _custody(self, jobs: list[Json], pods: list[Json], before: dict[str, bool]) -> list[str]:
        """Jobs and pods there: each paid for before, one alive for each work."""
        wrong: list[str] = []
        charges: dict[str, str] = {}
        alive: Counter[str] = Counter()
        for job in jobs:
            name, charge = job["metadata"]["name"], task_of(job).charge
            if charge is None:
                wrong.append(f"Job {name} in custody without a charge")
                continue
            charges[name] = charge.id
            alive[charge.id] += live_job(job)
            wrong += _paid(job, self.books.line(charge.id))
        wrong += [f"{count} live Jobs of charge {one}" for one, count in alive.items() if count > 1]
        working: Counter[str] = Counter()
        for pod in pods:
            one = charges.get(pod["metadata"]["labels"].get("job-name", ""))
            if one is None or not live_pod(pod):
                continue
            working[one] += 1
            line = self.books.line(one)
            settled = line is not None and not line.active and not before.get(one, True)
            if settled and one not in self._player.facts.published:
                wrong.append(f"pod {pod['metadata']['name']} outlives its charge")
        return wrong + [f"{n} live pods of charge {one}" for one, n in working.items() if n > 1]

    def _status(self, resource: Json) -> list[str]:
        """A status shows spending that the journal knows, and never less than it showed before."""
        wrong: list[str] = []
        where = f"{resource['kind']} {resource['metadata']['name']}"
        status: dict[str, Any] = resource.get("status") or {}
        for stage in status.get("stages", ()):
            told = stage.get("charge")
            if not told:
                continue
            line = self.books.line(told["id"])
            if line is None:
                wrong.append(f"{where} shows a charge that the journal does not hold")
                continue
            if RANK.get(told["state"], 0) > RANK.get(line.state.capitalize(), 0):
                wrong.append(f"{where} shows {told['state']}, the journal {line.state}")
            key = resource["metadata"]["uid"], told["id"]
            before = self._told.get(key, "Reserved")
            if RANK.get(told["state"], 0) < RANK.get(before, 0):
                wrong.append(f"{where} shows {told['state']} after {before}")
            self._told[key] = told["state"]
        if status.get("summary") == "Ready" and resource["kind"] == "PrivateGenerator":
            paid = self.books.of((resource["kind"], resource["metadata"]["name"]))
            if paid is None or paid.state != "committed":
                wrong.append(f"{where} is Ready and its charge is not committed")
        return wrong


def _paid(job: Json, line: Line | None) -> list[str]:
    """Whether a Job was made after its reservation; the API server's clock counts seconds."""
    name, made = job["metadata"]["name"], job["metadata"]["creationTimestamp"]
    if line is None:
        return [f"Job {name} without a charge in the journal"]
    if line.made_at[:19] > made[:19] and line.attempts == 0:
        return [f"Job {name} of {made} came before its reservation of {line.made_at}"]
    return []
