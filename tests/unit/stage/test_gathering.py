"""Answers of an endpoint while the store stumbles, or the pod is told to end in a put."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from cluster.fixtures import ObjectStore
from palimpsest.api.task import AnnotateParameters, EndpointAccess, EndpointInput, Task
from palimpsest.storage import StoreUnavailable
from palimpsest_stage.answers import gathering
from palimpsest_stage.answers.endpoint import Manner
from palimpsest_stage.answers.gathering import gather
from palimpsest_stage.answers.kept import FULL, Answered, Place
from palimpsest_stage.errors import Interrupted
from palimpsest_stage.parts import Parts
from palimpsest_stage.runtime import Context
from unit.stage.chat_server import ChatServer
from unit.stage.ground import Ground

AWAY = StoreUnavailable("the store answered 503; try again")


@pytest.fixture
def ground(object_store: ObjectStore, tmp_path: Path) -> Ground:
    return Ground.on(object_store, tmp_path, tmp_path.name.replace("_", "-"), 100)


def asking(ground: Ground, server: ChatServer) -> Task:
    parameters = AnnotateParameters(system_prompt="", max_new_tokens=16, batch_size=1)
    endpoint = EndpointInput(base_url=server.base_url, model="tiny")
    task = ground.task(parameters, {"endpoint": endpoint}, "outputs")
    access = EndpointAccess(concurrency=4, timeout_seconds=5, patience_seconds=60)
    # Parts of this test alone.
    output = task.output.model_copy(update={"uri": f"{task.output.uri}{ground.folder.name}/"})
    return task.model_copy(update={"endpoints": {"endpoint": access}, "output": output})


class Stumbling(Parts):
    """Parts whose put waits, at the first, until all is answered; then some puts fail."""

    def __init__(
        self, context: Context, server: ChatServer, awaited: int, errors: Iterable[Any]
    ) -> None:
        super().__init__(context)
        self._server, self._awaited, self._errors = server, awaited, iter(errors)
        self.writes = 0

    def write(self, name: str, document: Any) -> None:
        self.writes += 1
        if self.writes == 1:
            while self._server.seen().answered.total() < self._awaited:
                time.sleep(0.05)
            # The last answers are on their way.
            time.sleep(0.5)
        if error := next(self._errors, None):
            raise error
        super().write(name, document)


def gathered(context: Context, parts: Parts, count: int) -> Answered:
    answered = Answered(count, 1)
    manner, told = Manner("", 16), lambda _told: None
    gather(context, "endpoint", manner, question, parts, answered, told)
    return answered


def question(place: Place) -> str:
    return f"question {place.row}"


@pytest.mark.parametrize(
    ("count", "errors", "raised"),
    [
        (12, [Interrupted()], Interrupted),
        (12, [None, Interrupted()], Interrupted),
        (FULL + 12, [None, Interrupted()], Interrupted),
        (12, [AWAY], StoreUnavailable),
        (12, [None, AWAY, AWAY], StoreUnavailable),
        (FULL + 12, [None, AWAY], StoreUnavailable),
        # Told to end while it waits for the store.
        (FULL + 12, [None, AWAY, AWAY, Interrupted()], Interrupted),
    ],
)
def test_what_came_is_kept_once_whatever_happens_to_the_put(
    ground: Ground,
    server: ChatServer,
    count: int,
    errors: list[BaseException | None],
    raised: type[BaseException],
) -> None:
    task = asking(ground, server)
    first = Context(task, ground.environment(task))
    with pytest.raises(raised):
        gathered(first, Stumbling(first, server, count, errors), count)
    assert server.seen().asked.total() == count
    parts = Parts(first)
    places = [each["row"] for name in parts.names() for each in parts.read(name)["answers"]]
    assert sorted(places) == list(range(count))

    # The next attempt pays for nothing again, and no request counts twice.
    second = Context(task, ground.environment(task, attempt=2))
    report = gathered(second, Parts(second), count).report(None)
    assert (report["answers"], report["requests"]) == (count, count)
    assert server.seen().asked.total() == count


def test_a_store_that_stays_away_is_waited_for_so_long_and_nothing_more_is_asked(
    ground: Ground, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "PAUSES", (0.0, 0.1, 0.1))
    server.order(delay=0.05)
    task = asking(ground, server)
    context = Context(task, ground.environment(task))
    parts = Stumbling(context, server, 4, [AWAY] * 100)
    with pytest.raises(StoreUnavailable):
        gathered(context, parts, 200)
    asked = server.seen().asked.total()
    assert parts.writes == 1 + 3
    time.sleep(0.5)
    assert server.seen().asked.total() == asked < 200
