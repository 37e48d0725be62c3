"""The journal as a private stage writes it."""

from pathlib import Path

import pytest
from palimpsest.api.task import ChargeRef
from palimpsest_stage import train
from palimpsest_stage.private.fence import Fence
from unit.stage.ground import Ground
from unit.stage.training import parameters, reserved

MECHANISM = train.mechanism(parameters())


@pytest.fixture
def charge(ground: Ground, model_folder: Path) -> ChargeRef:
    """Reserved: six steps in blocks of two, and one restart."""
    task = reserved(ground, model_folder, ground.push_records([]))
    assert task.charge is not None
    return task.charge


def test_what_an_earlier_attempt_intends_up_to_the_start_is_counted(
    ground: Ground, charge: ChargeRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Fence(ground.store("custodian"), charge, 1)
    first.start(MECHANISM, restarts=1, block_steps=2)
    first.intent(0, 2)
    store = ground.store("custodian")
    put, late = store.put_if_absent, [1]

    def outrun(uri: str, data: bytes) -> bool:
        # The journal was read; the first attempt goes on before the second one's start.
        if late:
            first.intent(late.pop(), 2)
        return put(uri, data)

    monkeypatch.setattr(store, "put_if_absent", outrun)
    second = Fence(store, charge, 2)
    second.start(MECHANISM, restarts=1, block_steps=2)
    assert (second.intended_steps, second.earlier_attempts) == (4, 1)
