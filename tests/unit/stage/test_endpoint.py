"""The annotate stage as a program that asks a server of another process, whatever that does."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cluster.fixtures import ObjectStore
from integration.admission.ground import Authority
from palimpsest.api.annotation import TokenPrices
from palimpsest.api.outcomes import EXIT_CODES, Outcome
from palimpsest.api.task import AnnotateParameters, EndpointAccess, EndpointInput, Input, Task
from palimpsest_stage.answers import asking as asking_module
from palimpsest_stage.answers.asking import PROBE, Asking, Mailbox, Question
from palimpsest_stage.answers.endpoint import Endpoint, Manner
from palimpsest_stage.answers.kept import Place
from palimpsest_stage.answers.policy import MOST_ALONE, MOST_FAILURES, MOST_REJECTED
from palimpsest_stage.errors import EndpointFailed
from palimpsest_stage.parts import PARTS
from unit.stage.chat_server import ChatServer, serving
from unit.stage.ground import Ground

KEY = "sk-of-the-test"
SECRET = "annotator"


@pytest.fixture
def ground(object_store: ObjectStore, tmp_path: Path) -> Ground:
    made = Ground.on(object_store, tmp_path, tmp_path.name.replace("_", "-"), 100)
    made.secrets[SECRET] = {"API_KEY": KEY + "\n"}
    return made


def instructions(count: int) -> list[str]:
    return [f"question {index}" for index in range(count)]


def asking(ground: Ground, base_url: str, count: int, answers: int = 1, **access: Any) -> Task:
    # Work of this test alone: what another one published would count as done.
    rows = [
        {"id": f"{ground.folder}/{index}", "instruction": text}
        for index, text in enumerate(instructions(count))
    ]
    parameters = AnnotateParameters(
        system_prompt="Be brief.",
        max_new_tokens=16,
        batch_size=1,
        answers=answers,
        temperature="0.7" if answers > 1 else None,
        top_p="0.9",
    )
    endpoint = EndpointInput(base_url=base_url, model="tiny")
    inputs: dict[str, Input] = {
        "selected": ground.push_rows("selected.jsonl", rows),
        "endpoint": endpoint,
    }
    how = {"concurrency": 2, "timeout_seconds": 5, "patience_seconds": 60, "secret": SECRET}
    task = ground.task(parameters, inputs, "outputs")
    asked = EndpointAccess.model_validate(how | access)
    return task.model_copy(update={"endpoints": {"endpoint": asked}})


def published(ground: Ground, task: Task) -> list[dict[str, Any]]:
    text = ground.read(task.output, "annotated.jsonl")
    return [json.loads(line) for line in text.splitlines()]


def report(ground: Ground, task: Task) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(ground.read(task.output, "annotation.json"))
    return told


def kept(ground: Ground, task: Task) -> list[str]:
    """The instructions whose answers lie in parts."""
    store = ground.store("root")
    parts = [json.loads(store.get(uri)) for uri in store.list(f"{task.output.uri}{PARTS}")]
    return [f"question {each['row']}" for part in parts for each in part["answers"]]


def test_faults_pass_and_every_instruction_is_answered_once_in_order(
    ground: Ground, server: ChatServer
) -> None:
    server.order(faults=["drop", "500", "garbage", "half", "429:1", "answer", "hang", "endless"])
    prices = TokenPrices(input="0.15", output="2")
    task = asking(ground, server.base_url, 20, timeout_seconds=2, prices=prices)
    ended = ground.run(task)
    assert ended.outcome == "Completed", ended.said
    rows = published(ground, task)
    assert [row["instruction"] for row in rows] == instructions(20)
    assert [row["answer"] for row in rows] == [f"Yes: {text}" for text in instructions(20)]
    assert {row["finish"] for row in rows} == {"stop"}
    assert all("answers" not in row for row in rows)
    seen = server.seen()
    assert report(ground, task) == {
        "instructions": 20,
        "answers": 20,
        "finish": {"stop": 20},
        "tokens": {"in": 200, "out": 60},
        "answersWithoutTokenCount": 0,
        "requests": seen.asked.total(),
        "retries": 7,
        "retriesByCause": {
            "EndpointFailing": 1,
            "EndpointGarbled": 4,
            "EndpointRateLimited": 1,
            "EndpointTimedOut": 1,
        },
        "cost": "0.00015",
    }
    assert set(seen.answered.values()) == {1}
    assert seen.most_at_once <= 2
    assert set(seen.keys) == {f"Bearer {KEY}"}
    assert kept(ground, task) == []
    # Neither the key nor a word of what was asked and answered.
    assert KEY not in ended.said
    assert "question" not in ended.said
    told = json.loads(ground.store("root").get(f"{task.output.uri}progress.json"))
    assert told == {"done": 20, "total": 20, "unit": "answers", "tokens": 60}


def test_after_a_kill_what_was_kept_is_not_asked_again(ground: Ground, server: ChatServer) -> None:
    server.order(delay=0.1)
    task = asking(ground, server.base_url, 60, concurrency=3)
    first = ground.start(task)
    deadline = time.monotonic() + 120
    while len(kept(ground, task)) < 12:
        assert time.monotonic() < deadline, "no answer was kept"
        time.sleep(0.1)
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    before, then = server.seen(), kept(ground, task)
    assert 12 <= len(then) < 60
    # What is lost is what was in flight, and what came since the last was put.
    assert before.asked.total() - len(then) <= 2 * 3

    ended = ground.run(task, attempt=2)
    assert ended.outcome == "Completed", ended.said
    seen = server.seen()
    assert {seen.asked[text] for text in then} == {1}
    assert seen.asked.total() <= 60 + 2 * 3
    assert [row["instruction"] for row in published(ground, task)] == instructions(60)
    assert report(ground, task)["answers"] == 60
    assert kept(ground, task) == []


def test_asked_to_stop_it_keeps_what_came(ground: Ground, server: ChatServer) -> None:
    server.order(delay=0.1)
    task = asking(ground, server.base_url, 60)
    first = ground.start(task)
    while server.seen().answered.total() < 8:
        time.sleep(0.02)
    first.process.terminate()
    ended = first.wait()
    assert (ended.code, ended.outcome) == (75, "Interrupted")
    # At most the two that were under way: while it keeps what came, it asks nothing more.
    assert len(kept(ground, task)) >= server.seen().answered.total() - 2


def test_nothing_more_is_asked_once_it_is_stopped(server: ChatServer, tmp_path: Path) -> None:
    server.order(delay=0.05)
    access = EndpointAccess(concurrency=2, timeout_seconds=5, patience_seconds=60)
    asked = EndpointInput(base_url=server.base_url, model="tiny")
    endpoint = Endpoint(asked, access, Manner("Be brief.", 16), tmp_path)
    mailbox = Mailbox(lambda tell: Asking(endpoint, access, False, tell))
    questions = [Question(Place(row, 0), text) for row, text in enumerate(instructions(60))]
    came = next(mailbox.ask(questions)).answers
    for part in mailbox.stop():
        came = [*came, *part.answers]
    then = server.seen().asked.total()
    assert len(came) >= then - 2
    time.sleep(0.5)
    assert server.seen().asked.total() == then < 60


def settled(
    server: ChatServer,
    folder: Path,
    asked: Sequence[str],
    patience: float = 60,
    any_taken: bool = True,
) -> dict[str, str]:
    """How each instruction's answer ended."""
    access = EndpointAccess(concurrency=2, timeout_seconds=0.5, patience_seconds=patience)
    named = EndpointInput(base_url=server.base_url, model="tiny")
    endpoint = Endpoint(named, access, Manner("Be brief.", 16), folder)
    mailbox = Mailbox(lambda tell: Asking(endpoint, access, any_taken, tell))
    questions = [Question(Place(row, 0), text) for row, text in enumerate(asked)]
    parts = list(mailbox.ask(questions))
    came = [answer for part in parts for answer in part.answers]
    seen = server.seen()
    requests = sum(part.requests for part in parts)
    retries = sum(sum(part.retries.values()) for part in parts)
    assert requests == seen.asked.total()
    assert requests - retries == len(came) + seen.answered[PROBE]
    return {asked[answer.row]: answer.finish.value for answer in came}


@pytest.mark.parametrize("fault", ["500", "drop", "hang"])
def test_an_instruction_that_alone_is_failed_at_holds_up_no_other(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(asking_module, "backoff", lambda *_: 0.2)
    server.order(odd={"question 1": fault})
    assert settled(server, tmp_path, instructions(6), patience=1.5) == {
        **dict.fromkeys(instructions(6), "stop"),
        "question 1": "failed",
    }
    # Longer than patience, and among the last: the others were done long before.
    assert server.seen().asked["question 1"] == MOST_FAILURES + MOST_ALONE


def test_an_outage_is_nobody_s_own(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking_module, "backoff", lambda *_: 0.0)
    # Both instructions and the probes between them; it ends as it will, in the midst of a trial.
    server.order(faults=["500"] * 61)
    assert settled(server, tmp_path, instructions(2)) == dict.fromkeys(instructions(2), "stop")


def test_where_no_instruction_is_taken_none_is_given_up(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking_module, "backoff", lambda *_: 0.0)
    server.order(odd=dict.fromkeys(instructions(3), "500"))
    with pytest.raises(EndpointFailed, match="nothing that was asked was taken"):
        settled(server, tmp_path, instructions(3), any_taken=False)


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ("hang", Outcome.ENDPOINT_TIMED_OUT),
        ("garbage", Outcome.ENDPOINT_GARBLED),
        ("half", Outcome.ENDPOINT_GARBLED),
        ("429:3600", Outcome.ENDPOINT_RATE_LIMITED),
        ("503", Outcome.ENDPOINT_FAILING),
    ],
)
def test_what_lasts_beyond_patience_is_told_and_the_next_attempt_goes_on(
    ground: Ground, server: ChatServer, fault: str, outcome: Outcome
) -> None:
    server.order(faults=["answer"] * 3, then=fault)
    task = asking(ground, server.base_url, 8, timeout_seconds=0.5, patience_seconds=1.5)
    began = time.monotonic()
    ended = ground.run(task)
    assert (ended.outcome, ended.code) == (outcome, EXIT_CODES[outcome]), ended.said
    assert time.monotonic() - began < 20
    assert outcome.value in ended.said
    then = kept(ground, task)
    assert len(then) == 3
    server.order()
    assert ground.run(task, attempt=2).outcome == "Completed"
    seen = server.seen()
    assert {seen.asked[text] for text in then} == {1}
    assert len(published(ground, task)) == 8
    # The first attempt's requests count too, but for what its end cut off.
    told = report(ground, task)
    assert 0 <= seen.asked.total() - told["requests"] <= 2
    assert told["retries"] == told["requests"] - 8 > 0
    assert set(told["retriesByCause"]) == {outcome}


def test_a_server_that_is_not_there_is_told_apart(ground: Ground) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    ended = ground.run(asking(ground, url, 2, patience_seconds=1, timeout_seconds=1))
    assert ended.outcome == Outcome.ENDPOINT_UNREACHABLE, ended.said


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ("401", Outcome.ENDPOINT_ACCESS_DENIED),
        ("403", Outcome.ENDPOINT_ACCESS_DENIED),
        ("404", Outcome.ENDPOINT_NOT_FOUND),
        ("307:/elsewhere", Outcome.ENDPOINT_NOT_FOUND),
        ("409", Outcome.ENDPOINT_REFUSED),
        ("400", Outcome.ENDPOINT_REFUSED),
    ],
)
def test_what_asking_again_would_not_mend_ends_it_at_once(
    ground: Ground, server: ChatServer, fault: str, outcome: Outcome
) -> None:
    server.order(then=fault)
    ended = ground.run(asking(ground, server.base_url, 8))
    assert ended.outcome == outcome, ended.said
    seen = server.seen()
    assert set(seen.asked.values()) == {1}
    assert seen.elsewhere == 0


def test_a_secret_without_the_key_is_told_before_anything_is_asked(
    ground: Ground, server: ChatServer
) -> None:
    ground.secrets[SECRET] = {"KEY": KEY}
    ended = ground.run(asking(ground, server.base_url, 2))
    assert ended.outcome == Outcome.ENDPOINT_ACCESS_DENIED, ended.said
    assert server.seen().asked.total() == 0


def test_each_way_an_answer_ends_is_marked(ground: Ground, server: ChatServer) -> None:
    ways: dict[str, dict[str, Any]] = {
        "question 0": {"finish_reason": "length"},
        "question 1": {"content": " \n"},
        "question 2": {"content": None, "refusal": "No."},
        "question 3": {"content": None, "finish_reason": "content_filter"},
        "question 4": {"content": "I\u2019m sorry, but I can't help with that."},
        "question 5": {"content": "half a character: \ud800"},
    }
    server.order(replies=ways, odd={"question 6": "422", "question 7": "400"})
    task = asking(ground, server.base_url, 9)
    ended = ground.run(task)
    assert ended.outcome == "Completed", ended.said
    rows = published(ground, task)
    finishes = ["length", "empty", *["refusal"] * 3, "stop", "rejected", "rejected", "stop"]
    assert [row["finish"] for row in rows] == finishes
    assert rows[2]["answer"] == "No."
    assert rows[5]["answer"] == "half a character: ?"
    told = report(ground, task)
    assert told["finish"] == {"empty": 1, "length": 1, "refusal": 3, "rejected": 2, "stop": 2}
    assert server.seen().asked["question 6"] == 1


def test_several_answers_are_asked_for_one_by_one_and_all_stay(
    ground: Ground, server: ChatServer
) -> None:
    task = asking(ground, server.base_url, 4, answers=3)
    assert ground.run(task).outcome == "Completed"
    for row in published(ground, task):
        text = f"Yes: {row['instruction']}"
        assert row["answer"] == text
        assert row["answers"] == [text] * 3
        assert row["finishes"] == ["stop"] * 3
    seen = server.seen()
    assert set(seen.asked.values()) == {3}
    assert {(body["temperature"], body["top_p"]) for body in seen.bodies} == {(0.7, 0.9)}


def test_an_instruction_counts_once_however_often_it_is_rejected(
    ground: Ground, server: ChatServer
) -> None:
    server.order(odd={"question 0": "400", "question 1": "422"})
    task = asking(ground, server.base_url, 4, answers=16)
    ended = ground.run(task)
    assert ended.outcome == "Completed", ended.said
    finishes = [row["finishes"] for row in published(ground, task)]
    assert finishes == [["rejected"] * 16] * 2 + [["stop"] * 16] * 2


def test_so_many_rejected_instructions_are_no_matter_of_theirs(
    ground: Ground, server: ChatServer
) -> None:
    server.order(then="400")
    ended = ground.run(asking(ground, server.base_url, MOST_REJECTED + 20, answers=2))
    assert ended.outcome == Outcome.ENDPOINT_REFUSED, ended.said
    # The last may be asked by the other worker when the first answer to it is rejected.
    assert MOST_REJECTED <= len(server.seen().asked) <= MOST_REJECTED + 1


def test_a_single_answer_is_the_likeliest_and_newer_names_are_learnt(
    ground: Ground, server: ChatServer
) -> None:
    server.order(newer=True)
    task = asking(ground, server.base_url, 3, concurrency=1, secret=None)
    assert ground.run(task).outcome == "Completed"
    seen = server.seen()
    assert [sorted(body) for body in seen.bodies[:2]] == [
        ["max_tokens", "messages", "model", "temperature"],
        ["max_completion_tokens", "messages", "model", "temperature"],
    ]
    assert seen.asked.total() == 4
    assert {body["temperature"] for body in seen.bodies} == {0}
    assert seen.bodies[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert set(seen.keys) == {""}


def test_a_private_authority_is_trusted_where_it_is_named_and_nowhere_else(
    ground: Ground, tmp_path: Path
) -> None:
    authority = Authority()
    authority.issue(tmp_path / "certificates")
    with serving(tmp_path / "certificates" / "..data") as server:
        task = asking(ground, server.base_url, 2, ca_bundle=authority.pem)
        ended = ground.run(task)
        assert ended.outcome == "Completed", ended.said
        for bundle in (None, Authority().pem):
            impatient: dict[str, Any] = {
                "patience_seconds": 1,
                "timeout_seconds": 1,
                "ca_bundle": bundle,
            }
            ended = ground.run(asking(ground, server.base_url, 3, **impatient))
            assert ended.outcome == Outcome.ENDPOINT_UNREACHABLE, ended.said
        assert server.seen().asked.total() == 2


def test_requests_are_spaced(ground: Ground, server: ChatServer) -> None:
    task = asking(ground, server.base_url, 6, concurrency=6, requests_per_minute=120)
    began = time.monotonic()
    assert ground.run(task).outcome == "Completed"
    assert time.monotonic() - began > 5 * 0.5
    assert server.seen().most_at_once <= 2
