"""A thousand resources: the memory the operator takes, and what it writes when all is quiet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cluster.fixtures import ControlPlane, ObjectStore
from integration.scale.crowd import (
    MOST_MEGABYTES,
    MOST_MILLIS,
    MOST_SLOPE,
    RECONCILES,
    Crowd,
    gathered,
)


@pytest.fixture(scope="module")
def crowd(
    control_plane: ControlPlane,
    object_store: ObjectStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Crowd]:
    with gathered(control_plane, object_store, tmp_path_factory.mktemp("scale")) as made:
        yield made


@pytest.mark.full
def test_a_thousand_resources_fit_into_the_operators_memory_however_often_reconciled(
    crowd: Crowd,
) -> None:
    found = crowd.growth()
    print(found)
    assert found.reconciles >= RECONCILES
    assert found.peak <= MOST_MEGABYTES
    assert found.slope <= MOST_SLOPE


@pytest.mark.full
def test_when_all_is_quiet_the_lease_alone_is_written(crowd: Crowd) -> None:
    found = crowd.quiet()
    print(found)
    assert found.others == {}
    assert found.renewed, "the operator must be alive"
    assert found.millis <= MOST_MILLIS
