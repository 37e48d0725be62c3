"""A training on two processes: the real program, on a real store with a real journal."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from cluster.fixtures import ObjectStore
from palimpsest.api.task import PROCESSES_VARIABLE
from unit.stage.ground import Ground
from unit.stage.test_train import RECORDS, SECRET, SLOW, kinds, silent, training, wait_for_intents
from unit.stage.tiny import tiny_folder

TWO = {PROCESSES_VARIABLE: "2"}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture
def ground(object_store: ObjectStore, tmp_path: Path) -> Ground:
    made = Ground.on(object_store, tmp_path, tmp_path.name.replace("_", "-"), RECORDS)
    made.open_journal()
    return made


def test_two(ground: Ground, model_folder: Path) -> None:
    task = training(ground, model_folder)
    ended = ground.run(task, pod=TWO)
    print(ended, ground.reports())
    assert (ended.code, ended.outcome) == (0, "Completed")
