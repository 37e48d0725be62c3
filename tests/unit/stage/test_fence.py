"""The journal as a private stage writes it."""

from datetime import UTC, datetime, timedelta
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


def test_the_journal_tells_no_finer_time_of_a_private_stage_than_the_hour(
    ground: Ground, charge: ChargeRef
) -> None:
    fence = Fence(ground.store("custodian"), charge, 1)
    before = datetime.now(UTC)
    fence.start(MECHANISM, restarts=1, block_steps=2)
    fence.intent(0, 2)
    for entry in ground.entries()[2:]:
        assert entry["kind"] in ("start", "intent")
        assert entry["time"].endswith(":00:00.000000Z")
        assert before - datetime.fromisoformat(entry["time"]) < timedelta(hours=1)
    # The hour lies before the reservation, and the journal is as good as it was.
    settled = ground.journal().commit(charge.id, "disrupted")
    assert settled.cost == settled.intended_cost > 0
