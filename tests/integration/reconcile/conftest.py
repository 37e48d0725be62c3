"""The world that every test of the control loop starts in."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.fixtures import ControlPlane, ObjectStore
from integration.reconcile.harness import World


@pytest.fixture
def world(
    control_plane: ControlPlane, object_store: ObjectStore, tmp_path: Path
) -> Iterator[World]:
    made = World(control_plane, object_store, tmp_path)
    made.prepare()
    made.start()
    try:
        yield made
        made.check_events()
    finally:
        made.kill()
