"""A world whose operator made a release, signed for it, and was then stopped."""

import pytest
from cluster.fixtures import ControlPlane, ObjectStore
from integration.reconcile.harness import World


@pytest.fixture(scope="module")
def settled(
    control_plane: ControlPlane,
    object_store: ObjectStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> World:
    world = World(control_plane, object_store, tmp_path_factory.mktemp("world"))
    world.prepare()
    world.start()
    try:
        world.apply(world.privacy_budget())
        world.apply(world.private_generator())
        world.succeed("train", {"adapter_model.safetensors": b"adapter"}, 3)
        world.until("Ready", lambda: world.summary("pgen", "questions") == "Ready")
        head = world.journal().refresh().head
        assert head is not None
        world.until(
            "the status shows the journal's head",
            lambda: world.get("pb", world.budget)["status"]["head"]["digest"] == head.digest,
        )
    finally:
        world.kill()
    return world
