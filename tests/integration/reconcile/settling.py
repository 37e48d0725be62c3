"""When everything has come to rest, and whether each resource rests where the facts put it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from integration.reconcile.books import Books, Line
from integration.reconcile.ground import Ground
from integration.reconcile.harness import Json
from integration.reconcile.kube import conditions, jobs_in, live_job, ours
from integration.reconcile.player import OUTCOMES
from integration.reconcile.sequences import DATASETS, RUNS
from palimpsest.api.outcomes import Outcome
from palimpsest.privacy.gate import rho
from palimpsest.storage import NotFound

# The words in which a stage's own failure stands in the status.
OVER = {outcome.value for outcome in OUTCOMES.values()} | {
    Outcome.CHARGE_REFUSED.value,
    "Disrupted",
    "StageFailed",
    "ReleaseMissing",
    "ArtifactMissing",
}


class Rest:
    """What still moves, or stands where it should not."""

    def __init__(self, ground: Ground, books: Books) -> None:
        self._ground = ground
        self._kube = ground.kube
        self._books = books

    def unrest(self) -> list[str]:
        """Nothing if all is at rest."""
        self._books.read()
        tenant = self._ground.tenant
        found: dict[tuple[str, str], Json] = {
            (kind, item["metadata"]["name"]): item
            for kind in ("PrivateGenerator", "SyntheticDataset", "AlignmentRun")
            for item in self._kube.items(ours(kind, tenant))
        }
        jobs = [
            job
            for namespace in (self._ground.custody, tenant)
            for job in self._kube.items(jobs_in(namespace))
        ]
        return [
            *self._jobs(jobs, found),
            *self._charges(found),
            *self._budget(),
            *(trouble for key, item in found.items() for trouble in self._rests(key, item, found)),
        ]

    def gone(self) -> list[str]:
        """What is left after everything was deleted: nothing, and nothing held back."""
        self._books.read()
        left = [
            f"{kind} {item['metadata']['name']} is still there"
            for kind in ("PrivateGenerator", "SyntheticDataset", "AlignmentRun")
            for item in self._kube.items(ours(kind, self._ground.tenant))
        ]
        left += [
            f"Job {job['metadata']['name']} is still there"
            for namespace in (self._ground.custody, self._ground.tenant)
            for job in self._kube.items(jobs_in(namespace))
        ]
        left += [
            f"{each.work} holds a charge" for each in self._books.lines.values() if each.active
        ]
        return left

    def _jobs(self, jobs: list[Json], found: dict[tuple[str, str], Json]) -> Iterator[str]:
        for job in jobs:
            meta = job["metadata"]
            marks = meta["labels"]
            owner = marks["palimpsest.dev/kind"], marks["palimpsest.dev/name"]
            if owner not in found:
                yield f"Job {meta['name']} has outlived {owner}"
            elif live_job(job):
                yield f"Job {meta['name']} has not ended"

    def _charges(self, found: dict[tuple[str, str], Json]) -> Iterator[str]:
        for line in self._books.lines.values():
            if not line.active:
                continue
            if line.work not in found:
                yield f"the charge of {line.work}, which is gone, is {line.state}"
            elif line.work[0] == "PrivateGenerator" or self._sampled(line.work[1], found):
                # A data set whose generator is away keeps what it holds until that is back.
                yield f"the charge of {line.work} is {line.state}"

    def _sampled(self, name: str, found: dict[tuple[str, str], Json]) -> bool:
        return _summary(found.get(("PrivateGenerator", DATASETS[name]))) == "Ready"

    def _budget(self) -> Iterator[str]:
        budget = self._kube.get(ours("PrivacyBudget", "", self._ground.budget))
        if budget is None:
            return
        below = self._limit_below_spent(budget)
        if _summary(budget) != ("LimitBelowSpent" if below else "Ready"):
            yield f"the budget is {_summary(budget)}, its limit is {'' if below else 'not '}too low"

    def _limit_below_spent(self, budget: Json) -> bool:
        """Whether the limit was lowered below what was given out already."""
        limit, state = budget["spec"]["limit"], self._books.replayed().state
        if not state.is_open:
            return False
        units = rho(Decimal(limit["epsilon"]), Decimal(limit["delta"]), state.order)
        return units < state.committed + state.reserved

    def _rests(
        self, key: tuple[str, str], item: Json, found: dict[tuple[str, str], Json]
    ) -> Iterator[str]:
        kind, name = key
        meta, status = item["metadata"], item.get("status") or {}
        where = f"{kind} {name} is {_summary(item)}"
        if "deletionTimestamp" in meta:
            yield f"{where} and being deleted"
        elif status.get("observedGeneration") != meta["generation"]:
            yield f"{where}, said of an earlier spec"
        elif not self._expected(key, item, found):
            yield where

    def _expected(
        self, key: tuple[str, str], item: Json, found: dict[tuple[str, str], Json]
    ) -> bool:
        """Whether it rests where the journal, the store and what it refers to put it."""
        kind, name = key
        line = self._books.of(key)
        if kind == "PrivateGenerator":
            return self._trained(item, line)
        source = (
            ("PrivateGenerator", DATASETS[name])
            if kind == "SyntheticDataset"
            else ("SyntheticDataset", RUNS[name])
        )
        word = "Generator" if kind == "SyntheticDataset" else "Dataset"
        if source not in found:
            return _rests_as(item, f"{word}NotFound")
        if _summary(found[source]) != "Ready":
            return _rests_as(item, f"{word}NotReady")
        if _summary(item) == "Ready":
            made = item["status"].get("dataset" if kind == "SyntheticDataset" else "model")
            paid = line is None or line.state == "committed"
            return bool(made) and paid and self._there(made["uri"])
        return _stalled(item) and (_summary(item) in OVER or self._too_much(item, line))

    def _trained(self, item: Json, line: Line | None) -> bool:
        if line is not None and line.active:
            return False
        if line is not None and line.state == "committed":
            artifacts = item["status"]["stages"][0].get("artifacts") or []
            if _summary(item) == "Ready":
                receipt = item["status"].get("receipt", "")
                return self._there(receipt) and all(self._there(each["uri"]) for each in artifacts)
            published = line.id in self._books.published
            return not published and _stalled(item) and _summary(item) in OVER
        return _stalled(item) and (_summary(item) in OVER or self._too_much(item, line))

    def _too_much(self, item: Json, line: Line | None) -> bool:
        """Whether it was denied, and what it asks for does not fit indeed."""
        if _summary(item) == "LimitBelowSpent":
            budget = self._kube.get(ours("PrivacyBudget", "", self._ground.budget))
            return budget is not None and self._limit_below_spent(budget)
        if _summary(item) != "BudgetExceeded":
            return False
        left = self._books.replayed().state.left
        return line is None or line.reserved > left

    def _there(self, uri: str) -> bool:
        try:
            return bool(uri) and self._ground.store("operator").exists(uri)
        except NotFound:
            return False


def _summary(item: Json | None) -> str:
    status: dict[str, Any] = (item or {}).get("status") or {}
    return str(status.get("summary", ""))


def _stalled(item: Json) -> bool:
    return "Stalled" in conditions(item) and "Reconciling" not in conditions(item)


def _rests_as(item: Json, reason: str) -> bool:
    return _summary(item) == reason and "Reconciling" in conditions(item)
