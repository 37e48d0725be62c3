"""What tests of stages start from: a private training's ground, a server to be asked."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.fixtures import ObjectStore
from unit.stage.chat_server import ChatServer, serving
from unit.stage.ground import Ground
from unit.stage.tiny import tiny_folder
from unit.stage.training import RECORDS


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture
def ground(object_store: ObjectStore, tmp_path: Path) -> Ground:
    made = Ground.on(object_store, tmp_path, tmp_path.name.replace("_", "-"), RECORDS)
    made.open_journal()
    return made


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serving() as made:
        yield made
