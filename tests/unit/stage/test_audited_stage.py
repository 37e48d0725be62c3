"""An audited training as a program: published with its audit, or withheld, and the same resumed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from palimpsest.api.audit import AuditParameters, AuditResult
from palimpsest.api.generator import Lora
from palimpsest.api.task import Task
from palimpsest.privacy.audits import judge
from palimpsest_stage import train
from palimpsest_stage.errors import AuditFailed, ModelUnsuitable
from palimpsest_stage.private.checkpoints import Checkpoint
from palimpsest_stage.runtime import Context
from safetensors.torch import load
from torch import Tensor
from unit.stage import audited
from unit.stage.ground import FIELD, Ground
from unit.stage.training import reserved

STEPS = 12
AUDIT = AuditParameters(
    canaries=160,
    included_guesses=50,
    excluded_guesses=0,
    epsilon="1",
    delta="1e-5",
    confidence="0.95",
)


def training(ground: Ground, folder: Path, audit: AuditParameters = AUDIT) -> Task:
    """An audited training task, reserved."""
    records = [json.dumps({FIELD: f"is it {i}"}).encode() for i in range(20)]
    return reserved(
        ground,
        folder,
        ground.push_records(records),
        lora=Lora(rank=4, alpha=4),
        steps=STEPS,
        block_steps=4,
        noise_multiplier="20",
        audit=audit,
    )


def coins(ground: Ground) -> list[dict[str, Tensor]]:
    """What the checkpoints keep of the audit, oldest first."""
    work = ground.journal().location.removesuffix("ledger/") + "work/"
    store = ground.store("custodian")
    found = [uri for uri in store.list(work) if uri.endswith("/audit.safetensors")]
    return [load(store.get(uri)) for uri in sorted(found)]


def outside(ground: Ground, task: Task) -> list[str]:
    return list(ground.store("root").list(task.output.uri))


def test_a_release_carries_its_audit_and_a_resumed_training_the_same_coins(
    ground: Ground, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = training(ground, model_folder)
    step = train.Trainer.step

    def dying(self: train.Trainer, state: Checkpoint, rows: Any) -> tuple[Checkpoint, int]:
        if state.steps == 6:
            raise RuntimeError
        return step(self, state, rows)

    with monkeypatch.context() as patch:
        patch.setattr(train.Trainer, "step", dying)
        with pytest.raises(RuntimeError):
            train.run(Context(task, ground.environment(task)), {})
    (before,) = coins(ground)

    ended = ground.run(task, attempt=2)
    assert (ended.code, ended.outcome) == (0, "Completed")
    later = coins(ground)
    assert len(later) == 3
    for each in later:
        assert each["included"].equal(before["included"])
    evidence = [each["evidence"] for each in later]
    assert not evidence[0].equal(evidence[1])

    published = AuditResult.model_validate_json(ground.read(task.output, "audit.json"))
    # Noise of 20 hides the coins: a guess is right with chance 0.53 at most, and 43 of the 50 must
    # be (false alarms: 9e-7).
    assert published.verdict == "Passed"
    assert published == judge(AUDIT, published.correct)
    assert ground.reports()[-1]["audit"] == json.loads(ground.read(task.output, "audit.json"))
    released = [ground.store("root").get(uri) for uri in outside(ground, task)]
    assert not any(b"included" in data and b"evidence" in data for data in released)


# The stage program with a loop that adds no noise.
BROKEN = """
from palimpsest_stage import main, train

right = train.noisy_mean
train.noisy_mean = lambda total, normals, *rest: right(total, 0 * normals, *rest)
main.main()
"""


def test_a_release_whose_audit_fails_is_withheld_for_good(
    ground: Ground, model_folder: Path
) -> None:
    # Of 160 canaries 79 show, give or take 6; 43 do not with probability 2e-9.
    task = training(ground, model_folder)
    ended = ground.start(task, program=[sys.executable, "-c", BROKEN]).wait()
    assert (ended.code, ended.outcome) == (79, "AuditFailed")
    (line,) = ended.said.splitlines()
    assert json.loads(line).keys() == {"outcome", "message"}
    assert outside(ground, task) == []
    told = ground.reports()[-1]["audit"]
    assert told["verdict"] == "Failed"
    assert float(told["bound"]) >= 1
    # The evidence is kept: nobody gets another verdict by trying again.
    with pytest.raises(AuditFailed):
        train.run(Context(task, ground.environment(task, attempt=2)), {})
    assert outside(ground, task) == []
    assert ground.entries()[-1]["kind"] == "start"


def test_an_audit_without_power_is_published_as_such(ground: Ground, model_folder: Path) -> None:
    task = training(ground, model_folder, AUDIT.model_copy(update={"epsilon": "3"}))
    with audited.NO_NOISE.run():
        train.run(Context(task, ground.environment(task)), {})
    published = AuditResult.model_validate_json(ground.read(task.output, "audit.json"))
    assert published.verdict == "NoPower"
    assert float(published.largest_provable) < 3


def test_too_many_canaries_for_the_adapters_are_refused_before_the_start(
    ground: Ground, model_folder: Path
) -> None:
    many = AUDIT.model_copy(update={"canaries": 5_000})
    task = training(ground, model_folder, many)
    with pytest.raises(ModelUnsuitable):
        train.run(Context(task, ground.environment(task)), {})
    assert [entry["kind"] for entry in ground.entries()] == ["open", "reserve"]
