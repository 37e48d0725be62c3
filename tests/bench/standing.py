"""What benchmarks stand on: the tests' own API server and store, or a store for stages."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster import store
from cluster.fixtures import ControlPlane, ObjectStore, Site, versitygw
from unit.stage.ground import Ground


def without_a_node(held: ExitStack) -> tuple[ControlPlane, ObjectStore, Path]:
    """A control plane, an object store and a folder to work in, all gone with the stack."""
    top = Path(held.enter_context(TemporaryDirectory(prefix="palimpsest-bench-")))
    plane, data, work = (top / name for name in ("plane", "store", "work"))
    for folder in (plane, data, work):
        folder.mkdir()
    keys = store.credentials(data / "credentials.json")
    return (
        held.enter_context(Site(plane).running()),
        held.enter_context(versitygw(data, keys)),
        work,
    )


def for_stages(held: ExitStack, name: str) -> Ground:
    """A ground to run stages on, gone with the stack."""
    top = Path(held.enter_context(TemporaryDirectory(prefix="palimpsest-bench-")))
    data, work = top / "store", top / "work"
    for folder in (data, work):
        folder.mkdir()
    keys = store.credentials(data / "credentials.json")
    return Ground.on(held.enter_context(versitygw(data, keys)), work, name, 1)
