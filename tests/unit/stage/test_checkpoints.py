"""What a later attempt finds of an earlier one's work."""

from pathlib import Path

import pytest
import torch
from cluster.fixtures import ObjectStore
from palimpsest_stage.dp.adam import Moments
from palimpsest_stage.private.checkpoints import Checkpoint, Checkpoints
from unit.stage.ground import Ground

PREFIX = "s3://private/.palimpsest/checkpoints-test/"


def checkpoint(steps: int) -> Checkpoint:
    torch.manual_seed(steps)
    vectors = torch.randn(2, 5, dtype=torch.float64)
    return Checkpoint(steps, torch.randn(5), Moments(vectors[0], vectors[1], steps))


@pytest.fixture
def ground(object_store: ObjectStore, tmp_path: Path) -> Ground:
    return Ground.on(object_store, tmp_path, "checkpoints", 200)


@pytest.fixture
def kept(ground: Ground, tmp_path: Path) -> Checkpoints:
    """After block 0 of one attempt and blocks 1 and 2 of the next."""
    store = ground.store("root")
    for uri in list(store.list(PREFIX)):
        store.delete(uri)
    made = Checkpoints(store, PREFIX, tmp_path)
    made.save("1-a", 0, checkpoint(2))
    made.save("2-b", 1, checkpoint(4))
    made.save("2-b", 2, checkpoint(6))
    return made


def test_the_furthest_of_all_attempts_comes_back_to_the_bit(kept: Checkpoints) -> None:
    found, expected = kept.latest(), checkpoint(6)
    assert found is not None
    assert (found.steps, found.moments.steps) == (6, 6)
    assert torch.equal(found.weights, expected.weights)
    assert torch.equal(found.moments.first, expected.moments.first)
    assert torch.equal(found.moments.second, expected.moments.second)


@pytest.mark.parametrize("name", ["adapter.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("data", [None, b"", b"damaged", b"{}", b'{"steps": "x"}'])
def test_one_that_is_not_whole_is_passed_over(
    kept: Checkpoints, ground: Ground, name: str, data: bytes | None
) -> None:
    store, place = ground.store("root"), f"{PREFIX}2-b/block-2/{name}"
    if data is None:
        store.delete(place)
    else:
        store.put(place, data)
    found = kept.latest()
    assert found is not None
    assert found.steps == 4


def test_none_is_found_where_none_was_left(kept: Checkpoints, ground: Ground) -> None:
    for uri in list(ground.store("root").list(PREFIX)):
        ground.store("root").delete(uri)
    assert kept.latest() is None
