"""What a report tells: resources, and the small files beside what they published."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from palimpsest.api.alignment import AlignmentRun
from palimpsest.api.budget import PrivacyBudget
from palimpsest.api.common import ArtifactRef, ChargeStatus, Condition, StageStatus, Storage
from palimpsest.api.dataset import SyntheticDataset
from palimpsest.api.generator import PrivateGenerator
from palimpsest.privacy.accountant import epsilon_rdp
from palimpsest.privacy.mechanisms import Mechanism
from palimpsest.privacy.pricing import price_histogram, price_training

Resource = PrivateGenerator | SyntheticDataset | AlignmentRun
# What the stages publish for a reader, by the stage that does.
FILES: Mapping[str, tuple[str, ...]] = {
    "train": ("audit.json",),
    "sample": ("sampling.json",),
    "annotate": ("annotation.json",),
    "card": ("card.json", "lengths.svg", "clusters.svg", "map.svg"),
    "reward": ("reward.json",),
    **dict.fromkeys(("sft", "dpo", "rlhf"), ("training.json", "evaluation.json", "gates.json")),
}


@dataclass(frozen=True)
class Named:
    """A resource under its name."""

    name: str
    resource: Resource

    @property
    def kind(self) -> str:
        """Its kind."""
        return self.resource.kind

    @property
    def stages(self) -> list[StageStatus]:
        """Its stages, as far as they came."""
        return list(self.resource.status.stages) if self.resource.status else []

    @property
    def ready(self) -> Condition | None:
        """Whether it is Ready, and why not."""
        conditions = self.resource.status.conditions if self.resource.status else []
        return next((each for each in conditions if each.type == "Ready"), None)


@dataclass(frozen=True)
class Facts:
    """A resource and all it was made from, the first of them first.

    `files` holds JSON and SVG by stage and name; `untold` says what could not be read, and why.
    """

    namespace: str
    chain: tuple[Named, ...]
    budget_name: str
    budget: PrivacyBudget | None
    files: Mapping[tuple[str, str], bytes] = field(default_factory=dict)
    untold: tuple[str, ...] = ()

    @property
    def subject(self) -> Named:
        """What the report is about."""
        return self.chain[-1]

    def find(self, kind: type[Resource]) -> Named | None:
        """The resource of a kind."""
        return next((each for each in self.chain if isinstance(each.resource, kind)), None)

    @property
    def guarantee(self) -> str:
        """The statement that holds for what was published."""
        for named in reversed(self.chain):
            status = named.resource.status
            if not isinstance(named.resource, PrivateGenerator) and status:
                told = getattr(status, "guarantee", "")
                if told:
                    return str(told)
        return self.budget.status.guarantee if self.budget and self.budget.status else ""


@dataclass(frozen=True)
class Cost:
    """A charged stage; `epsilon` is what it costs alone, at the budget's delta."""

    resource: str
    stage: str
    charge: ChargeStatus
    epsilon: float | None
    receipt: str


def costs(facts: Facts) -> Iterator[Cost]:
    """Of every charge of the chain, in order."""
    for named in facts.chain:
        status = named.resource.status
        for stage in named.stages:
            if stage.charge is not None:
                yield Cost(
                    f"{named.kind} {named.name}",
                    stage.name,
                    stage.charge,
                    _epsilon(named.resource, facts.budget),
                    str(getattr(status, "receipt", "")),
                )


def artifacts(facts: Facts) -> Iterator[tuple[str, ArtifactRef, Storage]]:
    """(stage, its first artifact, the store it lies in) of what has files for a reader."""
    for named in facts.chain:
        storage = _storage(named.resource, facts.budget)
        for stage in named.stages:
            if stage.name in FILES and stage.artifacts and storage is not None:
                yield stage.name, stage.artifacts[0], storage


def _storage(resource: Resource, budget: PrivacyBudget | None) -> Storage | None:
    if isinstance(resource, PrivateGenerator):
        return budget.spec.releases.storage if budget else None
    return resource.spec.output.storage


def _epsilon(resource: Resource, budget: PrivacyBudget | None) -> float | None:
    """By Rényi accounting, as the gate does it; the worst case that was reserved."""
    if budget is None:
        return None
    try:
        mechanism = _mechanism(resource, budget)
        if mechanism is None:
            return None
        return epsilon_rdp([mechanism], float(budget.spec.limit.delta))[0]
    except ValueError:
        return None


def _mechanism(resource: Resource, budget: PrivacyBudget) -> Mechanism | None:
    if isinstance(resource, PrivateGenerator):
        return price_training(resource.spec, budget.spec)
    if isinstance(resource, SyntheticDataset) and resource.spec.resampling:
        return price_histogram(resource.spec.resampling)
    return None


def told(files: Mapping[tuple[str, str], bytes], name: str) -> Any:
    """What a JSON file of any stage says; None where there is none or it cannot be read."""
    for (_, found), data in files.items():
        if found == name:
            try:
                return json.loads(data)
            except ValueError:
                return None
    return None
