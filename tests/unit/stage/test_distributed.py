"""A training on several processes: the real program, on a real store with a real journal."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from cluster.fixtures import free_ports
from palimpsest.api.task import LEADER_VARIABLE, PROCESSES_VARIABLE, REPLICAS_VARIABLE
from unit.stage.ground import Ground, Running
from unit.stage.test_train import (
    SECRET,
    SLOW,
    kinds,
    lines,
    silent,
    training,
    wait_for_intents,
)

TWO = {PROCESSES_VARIABLE: "2"}
FOUND = {"usable": 151, "not JSON": 1, "no such text field": 1}


def children(running: Running) -> list[int]:
    """The ranks' processes, in the order of their ranks."""
    pid = running.process.pid
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sorted(int(child) for child in found)


def gone(pids: list[int]) -> bool:
    """Whether none of them runs: a dead process may still wait to be collected."""
    states = [Path(f"/proc/{pid}/stat") for pid in pids]
    return all(not p.exists() or p.read_text().rpartition(") ")[2][0] == "Z" for p in states)


def until(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_two_processes_train_and_a_lost_one_ends_the_attempt_and_the_next_resumes(
    ground: Ground, model_folder: Path
) -> None:
    task = training(ground, model_folder, **SLOW)
    first = ground.start(task, more=TWO)
    wait_for_intents(ground, 2)
    ranks = children(first)
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    ended = first.wait()
    assert (ended.code, ended.outcome) == (75, "Interrupted")
    assert silent(ended)
    assert gone(ranks)

    ended = ground.run(task, attempt=2, more=TWO)
    assert (ended.code, ended.outcome) == (0, "Completed")
    assert silent(ended)
    said = [(e["kind"], e["body"].get("block")) for e in ground.entries()[2:]]
    resumed = said.index(("start", None), 1)
    before, after = said[1:resumed], said[resumed + 1 :]
    # One start an attempt, and no block before the one that was under way is done again.
    assert said[0] == ("start", None)
    assert after == [("intent", block) for block in range(before[-1][1], 3)]
    charge = ground.journal().refresh().charge(task.charge.id if task.charge else "")
    assert charge.intended_steps == 2 * (len(before) + len(after)) <= 6 + 2
    assert charge.intended_cost <= charge.cost

    names = {file.path.rsplit("/", 1)[-1] for file in ground.manifest(task.output).files}
    assert names == {"adapter_model.safetensors", "adapter_config.json", "generator.json"}
    public = [ground.store("root").get(uri) for uri in ground.store("root").list(task.output.uri)]
    assert not any(SECRET.encode() in data for data in public)
    # One report an attempt, of all ranks together.
    interrupted, completed = ground.reports()
    assert interrupted["outcome"] == "Interrupted"
    assert completed["records"] == FOUND
    assert len(completed["batches"]) == 2 * len(after)


@pytest.mark.full
def test_a_rank_that_hangs_ends_the_attempt(ground: Ground, model_folder: Path) -> None:
    task = training(ground, model_folder, **SLOW)
    running = ground.start(task, more={**TWO, "PALIMPSEST_PEER_SECONDS": "20"})
    wait_for_intents(ground, 1)
    ranks = children(running)
    os.kill(ranks[1], signal.SIGSTOP)
    ended = running.wait()
    assert (ended.code, ended.outcome) == (75, "Interrupted")
    assert silent(ended)
    assert gone(ranks)
    assert kinds(ground).count("start") == 1


def test_sigterm_ends_all_ranks_though_they_wait_for_one_another(
    ground: Ground, model_folder: Path
) -> None:
    task = training(ground, model_folder, **SLOW)
    running = ground.start(task, more=TWO)
    wait_for_intents(ground, 1)
    ranks = children(running)
    # The leader now waits in native code, where no signal is heard.
    os.kill(ranks[1], signal.SIGSTOP)
    running.process.terminate()
    ended = running.wait()
    assert (ended.code, ended.outcome) == (75, "Interrupted")
    assert silent(ended)
    assert gone(ranks)


def test_no_rank_outlives_its_pods_first_process(ground: Ground, model_folder: Path) -> None:
    task = training(ground, model_folder, **SLOW)
    running = ground.start(task, more=TWO)
    wait_for_intents(ground, 1)
    ranks = children(running)
    for rank in ranks:
        # They end by what ends their parent, not with their work.
        os.kill(rank, signal.SIGSTOP)
    running.process.kill()
    running.wait()
    try:
        until(lambda: gone(ranks), "ranks outlive their parent")
    finally:
        for rank in ranks:
            with suppress(ProcessLookupError):
                os.kill(rank, signal.SIGKILL)


def changed(change: str) -> list[str]:
    """The stage program, after `change(local)` in each of its ranks, given as text."""
    text = f"""
import time
from palimpsest_stage import main

rank = main._rank

{change}

def changed(task, environment, world, local):
    # After the fork, as the program itself imports what has threads.
    change(local)
    return rank(task, environment, world, local)

main._rank = changed
main.main()
"""
    return [sys.executable, "-c", text]


ORDER = """
def change(local):
    from palimpsest.ledger import Journal
    from palimpsest_stage import train
    from palimpsest_stage.private.fence import Fence

    start, intent = Fence.start, Fence.intent
    read, clipped = train.read_texts, train.Trainer.clipped_sum
    place, executed = [], []

    def charge():
        (one,) = Journal(*place).refresh().charges.values()
        return one

    def late(method):
        def called(*given):
            time.sleep(3)
            return method(*given)
        return called

    def reading(store, source, *rest):
        place[:] = store, source.uri
        assert charge().attempts == 1
        return read(store, source, *rest)

    def computing(self, weights, batch):
        assert len(executed) < charge().intended_steps
        executed.append(batch)
        return clipped(self, weights, batch)

    # The leader is late at the journal: a rank that did not wait for it would be found out.
    Fence.start, Fence.intent = late(start), late(intent)
    train.read_texts, train.Trainer.clipped_sum = reading, computing
"""


def test_no_rank_reads_before_the_start_nor_computes_before_the_intent(
    ground: Ground, model_folder: Path
) -> None:
    task = training(ground, model_folder)
    ended = ground.start(task, program=changed(ORDER), more=TWO).wait()
    assert (ended.code, ended.outcome) == (0, "Completed"), ground.reports()
    assert kinds(ground)[2:] == ["start", "intent", "intent", "intent"]


FAULT = """
def change(local):
    from palimpsest_stage import train

    read = train.read_texts

    def reading(store, source, *rest):
        if local == 1:
            line = store.get(next(iter(store.list(source.uri))))[:40]
            print(line, flush=True)
            raise RuntimeError(line)
        return read(store, source, *rest)

    train.read_texts = reading
"""


def test_a_ranks_own_failure_is_the_attempts_and_is_told_to_the_custodian_alone(
    ground: Ground, model_folder: Path
) -> None:
    task = training(ground, model_folder)
    ended = ground.start(task, program=changed(FAULT), more=TWO).wait()
    assert (ended.code, ended.outcome) == (70, "InternalError")
    assert silent(ended)
    assert SECRET not in ended.said
    assert any(SECRET in report["error"] for report in ground.reports())
    assert "intent" not in kinds(ground)


OTHER_LISTING = """
def change(local):
    from palimpsest.storage import S3Store

    listed = S3Store.list

    def listing(self, uri):
        found = sorted(listed(self, uri))
        return iter(found[1:] if local == 1 and len(found) == 2 else found)

    S3Store.list = listing
"""


def test_ranks_that_see_other_records_execute_no_step(ground: Ground, model_folder: Path) -> None:
    task = training(ground, model_folder)
    ground.push_records(lines(), "records-0.jsonl")
    ended = ground.start(task, program=changed(OTHER_LISTING), more=TWO).wait()
    assert (ended.code, ended.outcome) == (75, "Interrupted")
    assert "intent" not in kinds(ground)


@pytest.mark.full
def test_pods_train_together_and_one_that_is_lost_ends_the_others(
    ground: Ground, model_folder: Path
) -> None:
    """Two programs, as two pods on one network."""
    task = training(ground, model_folder, **SLOW)

    def pods(attempt: int) -> list[Running]:
        (port,) = free_ports(1)
        common = {REPLICAS_VARIABLE: "2", LEADER_VARIABLE: f"localhost:{port}"}
        return [
            ground.start(task, attempt, more={**common, "JOB_COMPLETION_INDEX": str(index)})
            for index in range(2)
        ]

    first, second = pods(1)
    wait_for_intents(ground, 1)
    ranks = children(first)
    second.process.kill()
    second.wait()
    until(lambda: gone(ranks), "the leader goes on alone")
    # As the Job controller asks what is left of a failed Job; it waits for that for a while.
    assert first.process.poll() is None
    first.process.terminate()
    ended = first.wait()
    assert (ended.code, ended.outcome) == (75, "Interrupted")
    assert silent(ended)

    for running in pods(2):
        ended = running.wait()
        assert (ended.code, ended.outcome) == (0, "Completed")
        assert silent(ended)
    assert kinds(ground).count("start") == 2
