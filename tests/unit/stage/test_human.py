"""People's answers: joined by id, all accounted for, and refused where they do not fit."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cluster.fixtures import ObjectStore
from hypothesis import given
from hypothesis import strategies as st
from palimpsest.api.outcomes import Outcome
from palimpsest.api.task import AnnotateParameters, FileInput, Task, sha256_digest
from palimpsest_stage.answers.human import joined, parse
from palimpsest_stage.errors import InputMismatch
from unit.docs.test_logs import listed
from unit.stage.ground import Ground
from unit.stage.test_annotate import published

ROWS = [{"id": f"0-{index}", "instruction": f"is {index} odd"} for index in range(4)]


def lines(*rows: Any) -> list[bytes]:
    return [json.dumps(row).encode() + b"\n" for row in rows]


def test_answers_are_joined_by_id_in_the_instructions_order() -> None:
    given_rows = [
        {"id": "0-2", "answer": " No. "},
        {"id": "0-1", "answers": ["Yes.", "It is."], "by": "someone"},
        {"id": "0-0", "answer": "  "},
    ]
    rows, ends = joined(ROWS, parse([*lines(*given_rows), b"\n"]))
    assert [row["id"] for row in rows] == [row["id"] for row in ROWS]
    assert [row["answer"] for row in rows] == ["", "Yes.", "No.", ""]
    assert [row["finish"] for row in rows] == ["empty", "stop", "stop", "missing"]
    assert rows[1]["answers"] == ["Yes.", "It is."]
    assert rows[3]["finishes"] == ["missing"]
    assert ends == {"empty": 1, "missing": 1, "stop": 3}
    single, _ = joined(ROWS, parse(lines({"id": "0-2", "answer": "No."})))
    assert all("answers" not in row for row in single)


@pytest.mark.parametrize(
    ("given_lines", "said"),
    [
        (
            lines({"id": "1-0", "answer": "a"}, {"id": "9", "answer": "b"}),
            "2 ids .* first is '1-0'",
        ),
        (lines(*[{"id": "0-0", "answer": "a"}] * 3), "2 ids come again, the first is '0-0'"),
        (lines({"id": "0-0", "answer": "a"}, {"id": "0-1"}), "1 lines .* first is line 2"),
        (lines({"id": "0-0", "answer": "a", "answers": ["b"]}), "line 1"),
        (lines({"id": "0-0", "answers": []}), "line 1"),
        (lines({"id": "0-0", "answers": ["a", 2]}), "line 1"),
        (lines({"id": 0, "answer": "a"}), "line 1"),
        (lines({"id": "0-0", "answer": "\ud800"}), "line 1"),
        (lines({"id": "0-0", "answer": None}), "line 1"),
        ([b"id,answer\n"], "line 1"),
        ([b"\xff\xfe\n"], "line 1"),
    ],
)
def test_what_does_not_fit_is_refused_with_how_many_and_the_first(
    given_lines: list[bytes], said: str
) -> None:
    with pytest.raises(InputMismatch, match=said):
        joined(ROWS, parse(given_lines))


@given(st.lists(st.binary(max_size=40)))
def test_any_file_is_read_or_refused(given_lines: list[bytes]) -> None:
    found: dict[str, list[str]] = {}
    with suppress(InputMismatch):
        found = parse(given_lines)
    assert all(found.values())


@pytest.fixture
def ground(object_store: ObjectStore, tmp_path: Path) -> Ground:
    return Ground.on(object_store, tmp_path, tmp_path.name.replace("_", "-"), 100)


def answering(ground: Ground, data: bytes, digest: str | None = None) -> Task:
    uri = f"s3://outputs/{ground.folder.name}/answers.jsonl"
    ground.store("tenant").put(uri, data)
    rows = [{**row, "mark": str(ground.folder)} for row in ROWS]
    return ground.task(
        AnnotateParameters(system_prompt="", max_new_tokens=1, batch_size=1),
        {
            "selected": ground.push_rows("selected.jsonl", rows),
            "answers": FileInput(store="outputs", uri=uri, digest=digest or sha256_digest(data)),
        },
        "outputs",
    )


def test_the_stage_publishes_peoples_answers(ground: Ground) -> None:
    task = answering(ground, b"".join(lines({"id": "0-3", "answer": "Yes."})))
    ended = ground.run(task)
    assert ended.outcome == "Completed", ended.said
    assert [row["finish"] for row in published(ground, task)] == [*["missing"] * 3, "stop"]
    assert json.loads(ground.read(task.output, "annotation.json")) == {
        "instructions": 4,
        "answers": 1,
        "finish": {"missing": 3, "stop": 1},
    }


def test_the_stage_refuses_answers_to_others_and_other_files(ground: Ground) -> None:
    task = answering(ground, b"".join(lines({"id": "7-7", "answer": "Yes."})))
    ended = ground.run(task)
    assert ended.outcome == Outcome.INPUT_MISMATCH, ended.said
    line, word = (json.loads(each) for each in ended.said.splitlines())
    assert "1 ids are of no instruction, the first is '7-7'" in line["stack"]
    # In the operator's shape, and about the same resource.
    of = {"kind": task.subject.kind, "namespace": task.subject.namespace, "name": task.subject.name}
    assert {"level": "error", "stage": "annotate", **of}.items() <= line.items()
    assert line.keys() <= listed()
    assert word["outcome"] == ended.outcome
    ended = ground.run(answering(ground, b"", "sha256:" + "0" * 64))
    assert ended.outcome == Outcome.INPUT_MISMATCH, ended.said
