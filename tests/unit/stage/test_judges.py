"""An endpoint that judges answers: how its words are read, what it is asked, what it may not do."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from cluster.fixtures import ObjectStore
from hypothesis import given
from hypothesis import strategies as st
from palimpsest.api.outcomes import EXIT_CODES, Outcome
from palimpsest.api.task import (
    EndpointAccess,
    EndpointInput,
    EvaluationParameters,
    RewardParameters,
    Task,
)
from palimpsest_stage.alignment.asked import Asked
from palimpsest_stage.alignment.preferences import Pair, rank
from palimpsest_stage.alignment.statistics import duel
from palimpsest_stage.alignment.verdicts import COMPARING, MARKING, agreed, comparison, mark, word
from palimpsest_stage.dpo import run as prefer_by_reward
from palimpsest_stage.errors import EndpointFailed, ModelUnsuitable
from palimpsest_stage.parts import PARTS
from palimpsest_stage.runtime import Context
from unit.stage.aligned import ROWS, alignment, dpo, public_file, sft
from unit.stage.chat_server import ChatServer
from unit.stage.ground import Ground

KEY = "sk-of-the-judge"
SECRET = "judge"
VERDICT = RewardParameters(max_new_tokens=16)
ASKED = ["Can a red fox swim?", "Is the moon far?", "Do bees sleep?"]
TOLD = ["Yes, most swim well.", "Yes, some 384,000 km.", "They do, at night."]


@pytest.fixture
def ground(object_store: ObjectStore, tmp_path: Path) -> Ground:
    made = Ground.on(object_store, tmp_path, tmp_path.name.replace("_", "-"), 100)
    made.secrets[SECRET] = {"API_KEY": KEY + "\n"}
    return made


def entered(ground: Ground, task: Task, name: str, server: ChatServer, **access: Any) -> Task:
    """The task, whose input of that name is the server; what another test kept is not its."""
    place = f"{task.output.uri}{ground.folder.name}/"
    how = {"concurrency": 2, "timeout_seconds": 5, "patience_seconds": 60, "secret": SECRET}
    return task.model_copy(
        update={
            "output": task.output.model_copy(update={"uri": place}),
            "inputs": task.inputs | {name: EndpointInput(base_url=server.base_url, model="tiny")},
            "endpoints": {name: EndpointAccess.model_validate(how | access)},
        }
    )


def quiet(_done: int, _total: int, _unit: str) -> None:
    pass


@pytest.fixture
def judge(ground: Ground, server: ChatServer, model_folder: Path) -> Asked:
    task = entered(ground, alignment(ground, model_folder, sft()), "judge", server)
    return Asked(Context(task, ground.environment(task)), "judge", VERDICT, quiet)


@pytest.mark.parametrize(
    ("reply", "read"),
    [
        ("A", "A"),
        (" b.\n", "B"),
        ("**TIE**", "TIE"),
        ("Answer: B", "B"),
        ("A is wrong on two counts.\n\nB", "B"),
        ("A is better", None),
        ("A or B", None),
        ("", None),
        ("C", None),
    ],
)
def test_a_verdict_is_one_word_on_the_last_line(reply: str, read: str | None) -> None:
    assert word(reply) == read


@pytest.mark.parametrize(
    ("reply", "read"),
    [
        ("7", 7),
        ("**10**", 10),
        ("Mark: 3/10", 3),
        ("8 out of 10.", 8),
        ("It has 2 faults.\n6", 6),
    ],
)
def test_a_mark_is_a_whole_number_on_the_last_line(reply: str, read: int) -> None:
    assert mark(reply) == read


@pytest.mark.parametrize("reply", ["0", "11", "-3", "7.5", "seven", "", "7 of 9", "3\nA"])
def test_anything_else_is_no_mark(reply: str) -> None:
    assert math.isnan(mark(reply))


REPLIES = st.sampled_from(["A", "B", "TIE", "what?"])


@given(st.lists(st.tuples(REPLIES, REPLIES), max_size=20))
def test_only_what_both_orders_say_counts(replies: list[tuple[str, str]]) -> None:
    found = agreed(replies)
    turned = agreed([(second, first) for first, second in replies])
    assert turned.scores == [-score for score in found.scores]
    assert found.scores.count(1) == replies.count(("A", "B"))
    assert found.scores.count(-1) == replies.count(("B", "A"))
    assert found.unparsable == sum(pair.count("what?") for pair in replies)
    doubted = [("A", "A"), ("B", "B"), ("A", "TIE"), ("B", "TIE"), ("TIE", "A"), ("TIE", "B")]
    assert found.inconsistent == sum(map(replies.count, doubted))


def test_a_judge_that_always_says_a_decides_nothing(judge: Asked, server: ChatServer) -> None:
    server.order(judge="A")
    found = judge.compare(ASKED, TOLD, ["No.", "No.", "No."])
    assert (found.scores, found.unparsable, found.inconsistent) == ([0, 0, 0], 0, 3)
    fought = duel(found.scores, [0] * 3)
    assert (fought.wins, fought.losses, fought.ties, fought.rate) == (0, 0, 3, 0.5)
    seen = server.seen()
    assert set(seen.asked.values()) == {1}
    assert seen.asked.total() == 6
    assert set(seen.keys) == {f"Bearer {KEY}"}
    assert {body["temperature"] for body in seen.bodies} == {0}
    assert {body["max_tokens"] for body in seen.bodies} == {16}
    assert {body["messages"][0]["content"] for body in seen.bodies} == {COMPARING}


def test_who_echoes_the_question_loses_in_either_place(judge: Asked, server: ChatServer) -> None:
    server.order(judge="strict")
    assert judge.compare(ASKED, ASKED, TOLD).scores == [-1, -1, -1]
    assert judge.compare(ASKED, TOLD, ASKED).scores == [1, 1, 1]
    # What is the same needs no judge.
    before = server.seen().asked.total()
    assert judge.compare(ASKED, TOLD, TOLD).scores == [0, 0, 0]
    assert server.seen().asked.total() == before


def test_words_that_are_no_verdict_are_ties_and_counted(judge: Asked, server: ChatServer) -> None:
    server.order(judge="I cannot tell")
    found = judge.compare(ASKED, TOLD, ASKED)
    assert (found.scores, found.unparsable, found.inconsistent) == ([0, 0, 0], 6, 0)


def test_what_was_said_is_kept_for_the_same_answers_alone(judge: Asked, server: ChatServer) -> None:
    server.order(judge="strict", faults=["answer"] * 3, then="403")
    with pytest.raises(EndpointFailed) as failed:
        judge.compare(ASKED, TOLD, ASKED)
    assert failed.value.outcome == Outcome.ENDPOINT_ACCESS_DENIED
    before = server.seen().answered.total()
    server.order(judge="strict")
    assert judge.compare(ASKED, TOLD, ASKED).scores == [1, 1, 1]
    assert before == 3
    assert server.seen().answered.total() == 6
    assert judge.compare(ASKED, TOLD[::-1], ASKED).scores == [1, 1, 1]
    assert server.seen().answered.total() == 12


def test_a_prompt_that_is_rejected_in_both_orders_counts_once(
    judge: Asked, server: ChatServer
) -> None:
    asked = [f"{question} {again}" for again in range(8) for question in ASKED]
    told = TOLD * 8
    pairs = list(zip(asked, told, strict=True))[:12]
    odd = {comparison(each, our, each): "400" for each, our in pairs}
    odd |= {comparison(each, each, our): "400" for each, our in pairs}
    server.order(judge="strict", odd=odd)
    assert judge.compare(asked, told, asked).scores == [0] * 12 + [1] * 12


def test_marks_rank_answers_and_one_that_is_none_is_left_aside(
    judge: Asked, server: ChatServer
) -> None:
    odd = {f"Instruction:\n{ASKED[1]}\n\nAnswer:\nNo.\n\nWhich mark, from 1 to 10?": "422"}
    server.order(judge="strict", odd=odd)
    rows: list[dict[str, Any]] = [
        {"instruction": ASKED[0], "answers": [ASKED[0], "No.", TOLD[0]]},
        {"instruction": ASKED[1], "answers": [TOLD[1], "No."]},
        {"instruction": ASKED[2], "answers": ["They do", "do They"]},
    ]
    found = rank(rows, judge.mark)
    assert found.pairs == [Pair(ASKED[0], TOLD[0], ASKED[0])]
    assert (found.ties, found.without_choice, found.unscored) == (1, 1, 1)
    assert {body["messages"][0]["content"] for body in server.seen().bodies} == {MARKING}


def test_it_can_be_asked_if_any_prompt_is_taken(judge: Asked, server: ChatServer) -> None:
    server.order(faults=["400", "422", "answer"])
    judge.reach(ASKED, TOLD)
    assert server.seen().asked.total() == 3
    server.order(then="400")
    with pytest.raises(EndpointFailed) as failed:
        judge.reach(TOLD, ASKED)
    assert failed.value.outcome == Outcome.ENDPOINT_REFUSED
    assert server.seen().asked.total() == 6
    server.order(then="401")
    with pytest.raises(EndpointFailed) as failed:
        judge.reach(ASKED[::-1], TOLD)
    assert failed.value.outcome == Outcome.ENDPOINT_ACCESS_DENIED
    assert server.seen().asked.total() == 7


def evaluated(ground: Ground, folder: Path, server: ChatServer, **access: Any) -> Task:
    measured = EvaluationParameters(count=4, max_new_tokens=12, judge=VERDICT)
    held_out = public_file(ground, ROWS[:4])
    task = alignment(ground, folder, sft(evaluation=measured), evaluation=held_out)
    return entered(ground, task, "judge", server, **access)


def test_stages_ask_a_judge_and_a_ranker_and_publish_what_they_left_open(
    ground: Ground, model_folder: Path, server: ChatServer
) -> None:
    server.order(judge="A")
    task = evaluated(ground, model_folder, server)
    rows = [row | {"answers": ["yes it is so", f"is {row['id']}"]} for row in ROWS[:8]]
    ranked = entered(
        ground, alignment(ground, model_folder, dpo(reward=VERDICT), rows), "reward", server
    )
    ended = ground.run(task)
    assert ended.outcome == "Completed", ended.said
    told = json.loads(ground.read(task.output, "evaluation.json"))["judge"]
    assert (told["wins"], told["losses"], told["ties"], told["winRate"]) == (0, 0, 4, 0.5)
    assert (told["unparsable"], told["inconsistent"]) == (0, 4)
    assert told["low"] < 0.5 < told["high"]
    card = ground.read(task.output, "README.md").decode()
    assert "it contradicted itself on 4 prompts, and 0 of its verdicts could not be read" in card
    assert KEY not in ended.said
    assert list(ground.store("root").list(f"{task.output.uri}{PARTS}")) == []

    server.order(judge="strict")
    ended = ground.run(ranked)
    assert ended.outcome == "Completed", ended.said
    told = json.loads(ground.read(ranked.output, "training.json"))
    assert (told["pairs"], told["ties"], told["unscored"]) == (8, 0, 0)
    assert "ranked by tiny at an endpoint" in ground.read(ranked.output, "README.md").decode()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"chat_template": "{{ messages[0].content }}"}, "leaves the answer out"),
        ({"max_length": 257}, "dpo.maxLength: sequences of 257 tokens"),
    ],
)
def test_a_ranker_is_not_asked_for_a_base_model_that_does_not_suit(
    ground: Ground, model_folder: Path, server: ChatServer, given: dict[str, Any], said: str
) -> None:
    rows = [row | {"answers": ["yes it is so", "is more"]} for row in ROWS[:4]]
    parameters = dpo(reward=VERDICT, **given)
    task = entered(ground, alignment(ground, model_folder, parameters, rows), "reward", server)
    with pytest.raises(ModelUnsuitable, match=said):
        prefer_by_reward(Context(task, ground.environment(task)), {})
    assert server.seen().asked.total() == 0


def test_a_judge_that_cannot_be_asked_is_found_before_the_training(
    ground: Ground, model_folder: Path, server: ChatServer
) -> None:
    server.order(then="429:3600")
    task = evaluated(ground, model_folder, server, timeout_seconds=0.5, patience_seconds=1.5)
    ended = ground.run(task)
    limited = Outcome.ENDPOINT_RATE_LIMITED
    assert (ended.outcome, ended.code) == (limited, EXIT_CODES[limited]), ended.said
    assert not ground.store("root").exists(f"{task.output.uri}progress.json")
