"""The annotate stage against a model server of somebody else's: `transformers serve`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cluster.fixtures import ObjectStore
from palimpsest.api.task import AnnotateParameters, EndpointAccess, EndpointInput, Input
from unit.stage.ground import Ground
from unit.stage.test_annotate import TEMPLATE, kept, published
from unit.stage.tiny import tiny_model, tiny_tokenizer

COUNT, CONCURRENCY, TOKENS = 40, 4, 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("served") / "tiny"
    tiny_model().save_pretrained(made)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(made)
    return made


@contextmanager
def serving(folder: Path, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The server while the block lasts, as soon as it answers."""
    program = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder)]
    where = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(log.parent / "hf")}
    with (
        log.open("ab") as sink,
        subprocess.Popen(
            program + where, stdout=sink, stderr=sink, env={**os.environ, **offline}
        ) as process,
    ):
        try:
            until(lambda: answers(port), "the server answers")
            yield process
        finally:
            process.kill()


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.mark.full
def test_a_server_killed_in_mid_run_has_answered_every_instruction_once(
    object_store: ObjectStore, tmp_path: Path, folder: Path
) -> None:
    ground = Ground.on(object_store, tmp_path, tmp_path.name.replace("_", "-"), 100)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rows = [{"id": f"{tmp_path}/{i}", "instruction": f"is {i} odd"} for i in range(COUNT)]
    inputs: dict[str, Input] = {
        "selected": ground.push_rows("selected.jsonl", rows),
        "endpoint": EndpointInput(base_url=f"http://127.0.0.1:{port}/v1", model=str(folder)),
    }
    parameters = AnnotateParameters(system_prompt="", max_new_tokens=TOKENS, batch_size=1)
    access = EndpointAccess(concurrency=CONCURRENCY, timeout_seconds=30, patience_seconds=120)
    task = ground.task(parameters, inputs, "outputs")
    task = task.model_copy(update={"endpoints": {"endpoint": access}})
    log = tmp_path / "server.log"
    with serving(folder, port, log) as process:
        stage = ground.start(task)
        until(lambda: bool(kept(ground, task)), "an answer is kept")
        process.kill()
        process.wait()
    assert not (ground.store("root").exists(f"{task.output.uri}manifest.json"))
    with serving(folder, port, log):
        ended = stage.wait()
    assert ended.outcome == "Completed", ended.said

    found = published(ground, task)
    assert [(row["id"], row["instruction"]) for row in found] == [
        (row["id"], row["instruction"]) for row in rows
    ]
    assert {row["finish"] for row in found} <= {"stop", "length", "empty"}
    assert sum(bool(row["answer"]) for row in found) > COUNT / 2
    # What was in flight when the server died was asked again, and nothing else.
    asked = log.read_text(errors="replace").count('"POST /v1/chat/completions HTTP/1.1" 200')
    assert COUNT <= asked <= COUNT + CONCURRENCY
    assert "EndpointUnreachable" in ended.said
