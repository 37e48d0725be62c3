"""Random sequences of what users, pods, stores, networks and kills do to an operator. Pure.

A seed gives the same sequence for ever: what is played does not depend on what the operator did
with it. A step about something that is not there (a pod that never came) does nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

Target = tuple[str, str]
NOTHING: Target = ("", "")

# The budget holds two of the small trainings with their histograms, or the large one alone.
GENERATORS = {"small": "2", "other": "2", "large": "3"}
DATASETS = {"questions": "small", "plain": "other"}
RUNS = {"assistant": "questions"}
LIMIT = "3.4"
LOWER_LIMITS = ("3.3", "3.2", "3", "2.4", "2.1")
SHORTEST, LONGEST = 12, 20

# How many stages each has, and what it needs before its first.
STAGES: dict[Target, int] = {
    **{("PrivateGenerator", name): 1 for name in GENERATORS},
    ("SyntheticDataset", "questions"): 6,
    ("SyntheticDataset", "plain"): 3,
    ("AlignmentRun", "assistant"): 1,
}
SOURCES: dict[Target, Target] = {
    **{
        ("SyntheticDataset", name): ("PrivateGenerator", source)
        for name, source in DATASETS.items()
    },
    **{("AlignmentRun", name): ("SyntheticDataset", source) for name, source in RUNS.items()},
}
# First what most of the rest refers to.
EAGER = {("PrivateGenerator", "small"): 20, ("SyntheticDataset", "questions"): 12}

OVER = ("fails by its program", "runs out of memory")
ENDS = {
    "succeeds": 20,
    "runs": 4,
    "is interrupted": 4,
    "is disrupted": 4,
    "fails by its program": 2,
    "runs out of memory": 2,
}
FAULTS = {
    "refuses calls": 6,
    "is slow down": 6,
    "loses answers to writes": 3,
    "never hears writes": 3,
    "is down": 3,
}
# Some steps meet the operator in the middle of the one before.
PAUSES = (0.0, 0.0, 0.05, 0.2, 0.5)


@dataclass(frozen=True)
class Step:
    """One thing that happens; `word` and `number` say how, `pause` is in seconds and follows it."""

    action: str
    target: Target = NOTHING
    word: str = ""
    number: int = 0
    pause: float = 0.0

    def __str__(self) -> str:
        parts = [self.action, "/".join(part for part in self.target if part), self.word]
        told = " ".join(part for part in parts if part)
        return told + (f" {self.number}" if self.number else "")


@dataclass(frozen=True)
class Choice:
    """A step that makes sense; its number is drawn from a range."""

    weight: int
    action: str
    target: Target = NOTHING
    word: str = ""
    least: int = 0
    most: int = 0

    def drawn(self, random: Random) -> Step:
        """The step."""
        number = random.randint(self.least, self.most)
        return Step(self.action, self.target, self.word, number, random.choice(PAUSES))


@dataclass
class Model:
    """What the steps so far brought about, as far as it decides what can come next."""

    there: set[Target] = field(default_factory=set)
    suspended: set[Target] = field(default_factory=set)
    # Stages that are still to be played; 0 for what is done or has failed for good.
    left: dict[Target, int] = field(default_factory=lambda: dict(STAGES))
    done: set[Target] = field(default_factory=set)
    granted: bool = True
    allowed: bool = True
    lowered: int = 0

    def choices(self) -> Iterator[Choice]:
        """Every step that makes sense now."""
        for target in STAGES:
            yield from self._user(target)
        yield from self._custodian()
        yield from _faults()

    def _user(self, target: Target) -> Iterator[Choice]:
        if target not in self.there:
            yield Choice(EAGER.get(target, 3), "create", target)
            return
        yield Choice(1, "delete", target)
        yield Choice(2, "delete and create again", target)
        waits = target in self.suspended
        yield Choice(5 if waits else 1, "resume" if waits else "suspend", target)
        yield Choice(1, "give memory", target, least=1, most=4)
        yield Choice(1, "annotate", target)
        if self._works(target):
            for end, weight in ENDS.items():
                yield Choice(weight, "the pod of", target, end, most=3)
            yield Choice(2, "delete the Job of", target)
        if target[0] != "AlignmentRun":
            yield Choice(1, "a lost pod starts", target)

    def _works(self, target: Target) -> bool:
        source = SOURCES.get(target)
        return (
            self.left[target] > 0
            and target not in self.suspended
            and (source is None or (source in self.there and source in self.done))
        )

    def _custodian(self) -> Iterator[Choice]:
        if self.granted:
            yield Choice(1, "revoke custody")
        else:
            yield Choice(8, "grant custody")
        if self.allowed:
            yield Choice(1, "let the tenant out")
        else:
            yield Choice(8, "let the tenant in")
        if self.lowered < len(LOWER_LIMITS):
            yield Choice(1, "lower the limit", word=LOWER_LIMITS[self.lowered])

    def after(self, step: Step) -> None:
        """Take the step into account."""
        match step.action:
            case "create":
                self.there.add(step.target)
            case "delete":
                self.there.discard(step.target)
                self.suspended.discard(step.target)
            case "delete and create again" | "resume":
                self.suspended.discard(step.target)
            case "suspend":
                self.suspended.add(step.target)
            case "revoke custody" | "grant custody":
                self.granted = step.action == "grant custody"
            case "let the tenant out" | "let the tenant in":
                self.allowed = step.action == "let the tenant in"
            case "lower the limit":
                self.lowered += 1
            case "the pod of":
                self._ended(step)

    def _ended(self, step: Step) -> None:
        if step.word == "succeeds":
            self.left[step.target] -= 1
            if not self.left[step.target]:
                self.done.add(step.target)
        elif step.word in OVER:
            self.left[step.target] = 0


def _faults() -> Iterator[Choice]:
    for where in ("the API", "the store"):
        for fault, most in FAULTS.items():
            yield Choice(1, where, word=fault, least=1, most=most)
    yield Choice(2, "the API", word="finds conflicts", least=1, most=4)
    yield Choice(2, "watches are cut")
    yield Choice(1, "watches are gone")
    yield Choice(5, "kill the operator")
    yield Choice(1, "roll the operator over")


def sequence(seed: int) -> list[Step]:
    """The steps of a seed."""
    random = Random(seed)
    model = Model()
    steps: list[Step] = []
    for _ in range(random.randint(SHORTEST, LONGEST)):
        choices = list(model.choices())
        (chosen,) = random.choices(choices, [choice.weight for choice in choices])
        steps.append(chosen.drawn(random))
        model.after(steps[-1])
    return steps
