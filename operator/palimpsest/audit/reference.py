"""The second accountant: dp-accounting in a process of its own, asked once a journal."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from palimpsest.privacy import worker
from palimpsest.privacy.accountant import MIN_PLD_NOISE, PLD_SECONDS, AccountantError
from palimpsest.privacy.mechanisms import Mechanism


@dataclass(frozen=True)
class Question:
    """Mechanisms of one step each, priced at the gate's order; groups, composed at `delta`."""

    order: int
    delta: float
    steps: Sequence[Mechanism]
    groups: Sequence[Sequence[Mechanism]]


@dataclass(frozen=True)
class Epsilons:
    """A group's epsilon by two of dp-accounting's accountants; `pld` None where noise is tiny."""

    rdp: float
    pld: float | None


@dataclass(frozen=True)
class Answer:
    """Nats a step, in the question's order; epsilons, in the question's order."""

    nats: tuple[float, ...]
    groups: tuple[Epsilons, ...]


def ask(question: Question) -> Answer:
    """dp-accounting's answer. Raises AccountantError where it is missing, too slow or fails."""
    plain = {
        "order": question.order,
        "delta": question.delta,
        "steps": [each.model_dump() for each in question.steps],
        "groups": [
            {"mechanisms": [each.model_dump() for each in group], "pld": _has_pld(group)}
            for group in question.groups
        ],
    }
    seconds = PLD_SECONDS * max(1, len(question.groups))
    try:
        done = worker.ask("palimpsest.audit.worker", plain, seconds)
    except subprocess.TimeoutExpired as error:
        raise AccountantError(f"dp-accounting took over {seconds} s") from error
    if done.returncode == 3:
        raise AccountantError("dp-accounting is not installed")
    try:
        found = json.loads(done.stdout)
        return Answer(
            tuple(float(nats) for nats in found["nats"]),
            tuple(Epsilons(each["rdp"], each["pld"]) for each in found["groups"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise AccountantError(f"dp-accounting failed (exit {done.returncode})") from error


def _has_pld(group: Sequence[Mechanism]) -> bool:
    return all(float(mechanism.noise) >= MIN_PLD_NOISE for mechanism in group)
