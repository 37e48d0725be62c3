"""Several ranks do what one would: the same sums, one draw of noise, the same inclusion."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from palimpsest.api.outcomes import Outcome
from palimpsest_stage.distributed.launch import Word, threads, verdict
from palimpsest_stage.distributed.process_group import backend, settings
from palimpsest_stage.distributed.shards import Shard
from palimpsest_stage.distributed.world import World
from palimpsest_stage.errors import InvalidTask
from unit.stage import ranks

TESTS = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], list[Any]]:
    """What each rank saw in a scenario played by so many, by rank."""

    @cache
    def play(processes: int) -> list[Any]:
        folder = tmp_path_factory.mktemp("ranks")
        done = subprocess.run(
            [sys.executable, "-m", "unit.stage.ranks", str(processes), str(folder)],
            env={**os.environ, "PYTHONPATH": str(TESTS)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(processes)]

    return lambda scenario, processes: [each[scenario] for each in play(processes)]


Played = Callable[[str, int], list[Any]]


def test_a_step_of_two_ranks_is_the_step_of_one(played: Played) -> None:
    (alone,) = played("stepping", 1)
    leader, other = played("stepping", 2)
    assert leader["sizes"] == alone["sizes"] == [10, 10, 10]
    # One example a pass, so every clipped gradient is the same; float64 sums differ in order alone.
    first = np.array(leader["released"][0]) - np.array(alone["released"][0])
    assert np.linalg.norm(first) <= 1e-12 * np.linalg.norm(alone["released"][0])
    for mine, theirs in zip(leader["released"], alone["released"], strict=True):
        assert np.allclose(mine, theirs, rtol=1e-5, atol=1e-9)
    # All ranks compute at the leader's weights, to the bit, and the leader alone steps and draws.
    assert other["given"] == leader["given"]
    assert other["released"] == []
    assert (leader["draws"], other["draws"]) == (3, 0)
    assert other["steps"] == leader["steps"] == 3


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_noise_is_one_draw_whatever_the_number_of_ranks(played: Played, processes: int) -> None:
    seen = played("noise", processes)
    released = [np.array(each) for each in seen[0]["released"]]
    expected = 1.5 * 0.5 / 64
    # 5.5 standard errors each: a false alarm in less than one of 10^6 runs of this file.
    for gradient in released:
        n = len(gradient)
        assert abs(gradient.std() / expected - 1) < 5.5 / math.sqrt(2 * n)
        assert abs(gradient.mean()) < 5.5 * expected / math.sqrt(n)
    for one, another in combinations(released, 2):
        assert abs(np.corrcoef(one, another)[0, 1]) < 5.5 / math.sqrt(len(one))


def test_ranks_share_no_randomness(played: Played) -> None:
    words = [set(each["words"]) for each in played("noise", 3)]
    # Of 64-bit words: two alike come once in 10^12 runs.
    assert [len(each) for each in words] == [2000] * 3
    assert not any(one & other for one, other in combinations(words, 2))


@pytest.mark.parametrize("processes", [2, 3])
def test_every_record_is_included_at_the_declared_rate_by_one_rank(
    played: Played, processes: int
) -> None:
    seen = played("inclusion", processes)
    counts = np.array([each["counts"] for each in seen])
    assert ((counts > 0).sum(axis=0) == 1).all()
    rate, steps = ranks.EXPECTED / ranks.RECORDS, ranks.STEPS
    # Sixty records, 6 standard errors: a false alarm in one of 10^7 runs.
    assert (abs(counts.sum(axis=0) - steps * rate) < 6 * math.sqrt(steps * rate * (1 - rate))).all()
    sizes = np.array([each["sizes"] for each in seen], dtype=float)
    # Batches over all ranks are binomial: their variance, and no correlation between ranks.
    variance = ranks.ROWS * rate * (1 - rate)
    assert abs(sizes.sum(axis=0).var() / variance - 1) < 6 * math.sqrt(2 / steps)
    for one, other in combinations(range(processes), 2):
        assert abs(np.corrcoef(sizes)[one, other]) < 6 / math.sqrt(steps)


def test_ranks_add_up_and_hear_the_leader(played: Played) -> None:
    seen = played("sums", 3)
    assert seen[0]["total"] == [4.5, 4.5, 4.5]
    assert seen[0]["counts"] == {"usable": 6, "only 0": 1, "only 1": 1, "only 2": 1}
    assert [each["sent"] for each in seen] == [[7.0, 7.0]] * 3
    assert [each["number"] for each in seen] == [3] * 3


def test_ranks_that_disagree_all_give_up(played: Played) -> None:
    assert played("disagreement", 1) == ["agreed"]
    assert played("disagreement", 3) == ["PeerLost"] * 3


# As parsed: what has no UTF-8 is no text.
TEXTS = st.lists(
    st.one_of(st.none(), st.text(st.characters(codec="utf-8"), max_size=4)), max_size=30
)


@given(texts=TEXTS, size=st.integers(1, 7))
def test_every_record_is_in_one_shard(texts: list[str | None], size: int) -> None:
    shards = [Shard(rank, size) for rank in range(size)]
    taken = [[shard.takes(text) for shard in shards] for text in texts]
    assert all(sum(each) == 1 for each in taken)
    assert len({shard.seen() for shard in shards}) == 1


@given(one=TEXTS, other=TEXTS)
def test_ranks_that_read_different_records_know_it(
    one: list[str | None], other: list[str | None]
) -> None:
    seen = []
    for texts in (one, other):
        shard = Shard()
        for text in texts:
            shard.takes(text)
        seen.append(shard.seen())
    assert (seen[0] == seen[1]) == (one == other)


DONE, STOPPED, BROKEN = Outcome.COMPLETED, Outcome.INTERRUPTED, Outcome.INTERNAL_ERROR
LOST = Word(STOPPED, lost=True)


@pytest.mark.parametrize(
    ("words", "outcome"),
    [
        ([Word(DONE), Word(DONE)], DONE),
        ([Word(DONE), LOST], STOPPED),
        ([Word(DONE), None], STOPPED),
        ([None, None], STOPPED),
        ([LOST, LOST], STOPPED),
        ([LOST, Word(BROKEN)], BROKEN),
        ([Word(STOPPED), Word(BROKEN)], BROKEN),
        ([None, Word(Outcome.CHARGE_REFUSED)], Outcome.CHARGE_REFUSED),
        ([LOST, Word(Outcome.STORE_UNAVAILABLE)], Outcome.STORE_UNAVAILABLE),
        ([Word(Outcome.STORE_UNAVAILABLE), Word(BROKEN)], BROKEN),
    ],
)
def test_one_word_is_said_for_all_ranks(words: list[Word | None], outcome: Outcome) -> None:
    assert verdict(words) == outcome


def test_the_pod_says_who_its_ranks_are() -> None:
    assert World.of({}).size == 1
    world = World.of(
        {
            "PALIMPSEST_REPLICAS": "3",
            "PALIMPSEST_PROCESSES": "2",
            "PALIMPSEST_LEADER": "job-0.job:29500",
            "JOB_COMPLETION_INDEX": "2",
        }
    )
    assert (world.size, world.leader) == (6, ("job-0.job", 29500))
    assert [world.rank(local) for local in range(2)] == [4, 5]


@pytest.mark.parametrize(
    "wrong",
    [
        {"PALIMPSEST_REPLICAS": "x"},
        {"PALIMPSEST_REPLICAS": "2"},
        {"PALIMPSEST_REPLICAS": "2", "PALIMPSEST_LEADER": "host:port"},
        {"PALIMPSEST_REPLICAS": "2", "PALIMPSEST_LEADER": "h:1", "JOB_COMPLETION_INDEX": "2"},
        {"PALIMPSEST_PROCESSES": "2", "JOB_COMPLETION_INDEX": "1"},
    ],
)
def test_a_pod_that_does_not_fit_the_world_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidTask):
        World.of(wrong)


def test_processes_share_the_processors_and_gpus_speak_nccl() -> None:
    cores = len(os.sched_getaffinity(0))
    assert (threads(1), threads(cores), threads(100 * cores)) == (cores, 1, 1)
    assert (backend(gpus=False), backend(gpus=True)) == ("gloo", "cpu:gloo,cuda:nccl")


def test_ranks_of_one_pod_listen_on_its_loopback_device_alone(played: Played) -> None:
    listening = [address for each in played("sums", 3) for address in each["listening"]]
    assert listening
    assert set(listening) <= {"0100007F", "00000000000000000000000001000000"}
    # A pod's host name is its address: without a word gloo would listen there.
    assert settings(World(processes=2))["GLOO_SOCKET_IFNAME"] == "lo"
    assert "GLOO_SOCKET_IFNAME" not in settings(World(replicas=2, leader=("job-0.job", 1)))
