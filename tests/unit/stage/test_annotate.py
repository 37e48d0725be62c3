"""The annotate stage as a program that runs a model: parts, kills, several answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cluster.fixtures import ObjectStore
from palimpsest.api.task import AnnotateParameters, Task
from palimpsest_stage.annotate import replies
from palimpsest_stage.answers.kept import FULL
from palimpsest_stage.decode import greedy
from palimpsest_stage.parts import PARTS
from unit.stage.ground import Ground
from unit.stage.tiny import tiny_model, tiny_tokenizer

TEMPLATE = "{% for turn in messages %}[{{ turn.role }}] {{ turn.content }}{% endfor %} "


@pytest.fixture
def ground(object_store: ObjectStore, tmp_path: Path) -> Ground:
    return Ground.on(object_store, tmp_path, tmp_path.name.replace("_", "-"), 100)


def answering(ground: Ground, folder: Path, count: int, **parameters: Any) -> Task:
    # Work of this test alone: what another one published would count as done.
    rows = [
        {"id": f"{ground.folder}/{index}", "instruction": f"is {index} odd"}
        for index in range(count)
    ]
    asked = {"system_prompt": "", "chat_template": TEMPLATE, "max_new_tokens": 4, "batch_size": 64}
    return ground.task(
        AnnotateParameters.model_validate(asked | parameters),
        {
            "model": ground.push_model(folder, "s3://models/tiny-annotate/"),
            "selected": ground.push_rows("selected.jsonl", rows),
        },
        "outputs",
    )


def published(ground: Ground, task: Task) -> list[dict[str, Any]]:
    text = ground.read(task.output, "annotated.jsonl")
    return [json.loads(line) for line in text.splitlines()]


def kept(ground: Ground, task: Task) -> list[str]:
    return sorted(ground.store("root").list(f"{task.output.uri}{PARTS}"))


def test_a_killed_pod_is_followed_by_one_that_answers_what_is_missing(
    ground: Ground, model_folder: Path
) -> None:
    count, most = FULL, 64
    task = answering(ground, model_folder, count, max_new_tokens=most, batch_size=16)
    # The first write holds one answer, the second those of a second.
    ground.killed_after(task, PARTS, nth=1)
    # What an attempt kept is what the next one publishes: a mark in it shows.
    (place,) = kept(ground, task)
    marked = json.loads(ground.store("root").get(place))
    assert 16 < len(marked["answers"]) < count
    first = marked["answers"][0]
    first["text"] = "of the first attempt"
    ground.store("root").put(place, json.dumps(marked).encode())

    ended = ground.run(task, attempt=2)
    assert ended.outcome == "Completed", ended.said
    rows = published(ground, task)
    assert [row["instruction"] for row in rows] == [f"is {index} odd" for index in range(count)]
    assert rows[first["row"]]["answer"] == "of the first attempt"
    assert sum(row["answer"] == "of the first attempt" for row in rows) == 1
    assert kept(ground, task) == []
    told = json.loads(ground.read(task.output, "annotation.json"))
    assert told["answers"] == told["instructions"] == count
    assert sum(told["finish"].values()) == count
    assert set(told["finish"]) <= {"stop", "length", "empty"}
    # Random weights seldom end a sequence.
    assert told["finish"]["length"] > count / 2
    assert (told["requests"], told["retries"], told["cost"]) == (0, 0, None)
    assert 0 < told["tokens"]["out"] <= most * count
    assert json.loads(ground.store("root").get(f"{task.output.uri}progress.json")) == {
        "done": count,
        "total": count,
        "unit": "answers",
        "tokens": told["tokens"]["out"],
    }


def test_several_answers_are_sampled_from_a_seed_and_differ(
    ground: Ground, model_folder: Path
) -> None:
    task = answering(ground, model_folder, 20, answers=3, temperature="1.5")
    elsewhere = task.output.model_copy(update={"uri": f"{task.output.uri}again/"})
    again = task.model_copy(update={"output": elsewhere})
    for each in (task, again):
        ended = ground.run(each)
        assert ended.outcome == "Completed", ended.said
    rows = published(ground, task)
    assert all(len(row["answers"]) == len(row["finishes"]) == 3 for row in rows)
    assert all(row["answer"] == row["answers"][0] for row in rows)
    assert all(row["finish"] == row["finishes"][0] for row in rows)
    assert sum(len(set(row["answers"])) > 1 for row in rows) > 10
    assert rows == published(ground, again)
    assert json.loads(ground.read(task.output, "annotation.json"))["answers"] == 60


def test_without_a_temperature_answers_are_the_same_each_time(
    ground: Ground, model_folder: Path
) -> None:
    task = answering(ground, model_folder, 5, answers=2)
    assert ground.run(task).outcome == "Completed"
    assert all(row["answers"][0] == row["answers"][1] for row in published(ground, task))


def test_an_answer_ends_with_any_end_that_the_model_names() -> None:
    model, tokenizer = tiny_model(), tiny_tokenizer()
    prompts = [tokenizer(f"is {n} odd", add_special_tokens=False)["input_ids"] for n in range(20)]

    def found() -> dict[int, list[int]]:
        return dict(replies(model, tokenizer, prompts, 8, greedy, 20))

    whole = found()
    # A token in the midst of an answer, which is named an end now.
    other = next(ids[3] for ids in whole.values() if len(ids) > 4)
    model.generation_config.eos_token_id = [1, other]
    cut = {n: ids[: ids.index(other)] if other in ids else ids for n, ids in whole.items()}
    assert cut != whole
    assert found() == cut
