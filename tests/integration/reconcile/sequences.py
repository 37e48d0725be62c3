"""Random sequences of what users, pods, stores, networks and kills do to an operator. Pure.

A seed gives the same sequence for ever: what is played does not depend on what the operator did
with it. A step about something that is not there (a pod that never came) does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

Target = tuple[str, str]

# The budget holds two of the small trainings with their histograms, or the large one alone.
GENERATORS = {"small": "2", "other": "2", "large": "3"}
DATASETS = {"questions": "small", "plain": "other"}
RUNS = {"assistant": "questions"}
LIMIT = "3.4"
LOWER_LIMITS = ("3.3", "3.2", "3", "2.4", "2.1")
SHORTEST, LONGEST = 12, 20

ENDS = {
    "succeeds": 12,
    "runs": 4,
    "is interrupted": 3,
    "is disrupted": 3,
    "fails by its program": 2,
    "runs out of memory": 2,
    "finds no store": 1,
}


@dataclass(frozen=True)
class Step:
    """One thing that happens; `word` says how, `pause` is in seconds and follows it."""

    action: str
    target: Target = ("", "")
    word: str = ""
    number: int = 0
    pause: float = 0.0

    def __str__(self) -> str:
        parts = [self.action, "/".join(part for part in self.target if part), self.word]
        told = " ".join(part for part in parts if part)
        return told + (f" {self.number}" if self.number else "")


@dataclass
class Model:
    """What the steps so far brought about, as far as it decides what can come next."""

    there: set[Target] = field(default_factory=set)
    known: set[Target] = field(default_factory=set)
    suspended: set[Target] = field(default_factory=set)
    granted: bool = True
    allowed: bool = True
    lowered: int = 0

    def choices(self) -> Iterator[tuple[int, Callable[[Random], Step]]]:
        """Every step that makes sense now, with its weight."""
        yield from self._users()
        yield from self._custodian()
        for target in sorted(self.there):
            yield from _pods(target)
        yield from _faults()
        for target in sorted(self.known):
            if target[0] != "AlignmentRun":
                # A pod that everybody takes for gone.
                yield 1, lambda _, t=target: Step("a lost pod starts", t)

    def _users(self) -> Iterator[tuple[int, Callable[[Random], Step]]]:
        for target in everything():
            if target not in self.there:
                # First what the rest refers to.
                weight = 8 if target[0] == "PrivateGenerator" else 4
                yield weight, lambda _, t=target: Step("create", t)
                continue
            yield 1, lambda _, t=target: Step("delete", t)
            yield 2, lambda _, t=target: Step("delete and create again", t)
            turn = "resume" if target in self.suspended else "suspend"
            weight = 3 if target in self.suspended else 1
            yield weight, lambda _, t=target, a=turn: Step(a, t)
            yield 1, lambda random, t=target: Step("give memory", t, number=random.randint(1, 4))
            yield 1, lambda _, t=target: Step("annotate", t)

    def _custodian(self) -> Iterator[tuple[int, Callable[[Random], Step]]]:
        yield (1, lambda _: Step("revoke custody")) if self.granted else (
            5,
            lambda _: Step("grant custody"),
        )
        yield (1, lambda _: Step("let the tenant out")) if self.allowed else (
            5,
            lambda _: Step("let the tenant in"),
        )
        if self.lowered < len(LOWER_LIMITS):
            yield 1, lambda _: Step("lower the limit", word=LOWER_LIMITS[self.lowered])

    def after(self, step: Step) -> None:
        """Take the step into account."""
        match step.action:
            case "create":
                self.there.add(step.target)
                self.known.add(step.target)
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


def everything() -> list[Target]:
    """All resources that a sequence may make."""
    return [
        *(("PrivateGenerator", name) for name in GENERATORS),
        *(("SyntheticDataset", name) for name in DATASETS),
        *(("AlignmentRun", name) for name in RUNS),
    ]


def _pods(target: Target) -> Iterator[tuple[int, Callable[[Random], Step]]]:
    for end, weight in ENDS.items():
        if target[0] == "PrivateGenerator" or end in ("succeeds", "runs"):
            yield (
                weight,
                lambda random, t=target, w=end: Step(
                    "the pod of", t, w, number=random.randint(0, 3)
                ),
            )
    yield 1, lambda _: Step("delete the Job of", target)


def _faults() -> Iterator[tuple[int, Callable[[Random], Step]]]:
    for where in ("API", "store"):
        for fault, most in (
            ("refuses calls", 6),
            ("is slow down", 6),
            ("loses answers to writes", 3),
            ("never hears writes", 3),
            ("is down", 3),
        ):
            yield (
                1,
                lambda random, w=where, f=fault, m=most: Step(
                    f"the {w}", word=f, number=random.randint(1, m)
                ),
            )
    yield 2, lambda random: Step("the API", word="finds conflicts", number=random.randint(1, 4))
    yield 2, lambda _: Step("watches are cut")
    yield 1, lambda _: Step("watches are gone")
    yield 4, lambda _: Step("kill the operator")
    yield 1, lambda _: Step("roll the operator over")


def sequence(seed: int) -> list[Step]:
    """The steps of a seed."""
    random = Random(seed)
    model, steps = Model(), []
    for _ in range(random.randint(SHORTEST, LONGEST)):
        weights, makers = zip(*model.choices(), strict=True)
        (maker,) = random.choices(makers, weights)
        made = maker(random)
        # Some steps meet the operator in the middle of the one before.
        pause = random.choice((0.0, 0.05, 0.2, 0.4, 0.8))
        step = Step(made.action, made.target, made.word, made.number, pause)
        model.after(step)
        steps.append(step)
    return steps
