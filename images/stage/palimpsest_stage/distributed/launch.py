"""A pod's processes: forked, watched, and ended together.

The parent computes nothing and holds no record: it hears signals while its ranks wait for one
another in native code, where they hear none, and says one outcome for all of them.
"""

import ctypes
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess

from palimpsest.api.outcomes import EXIT_CODES, RETRYABLE_EXIT_CODE, Outcome
from palimpsest.api.shortage import Shortage

from palimpsest_stage.distributed.world import World
from palimpsest_stage.errors import Interrupted

# Together less than the pod's grace period of 30 seconds.
STOP_SECONDS = 15.0
# What ended a peer must be seen in its own pod first: by then the Job is failed by that, and this
# pod is asked to stop.
CLUSTER_SECONDS = 30.0

_PR_SET_PDEATHSIG = 1
_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Word:
    """How a rank ended; `lost` if only because another did, `shortage` if for want of that."""

    outcome: Outcome
    lost: bool = False
    shortage: Shortage | None = None


@dataclass(frozen=True)
class _Rank:
    process: BaseProcess
    heard: connection.Connection

    def word(self) -> Word | None:
        """What it said, once it has ended; None if something outside ended it."""
        try:
            if self.heard.poll():
                said: Word = self.heard.recv()
                return said
        except EOFError:
            pass
        ended_by = self.process.exitcode
        if ended_by in (-signal.SIGKILL, -signal.SIGTERM):
            return None
        return Word(Outcome.INTERNAL_ERROR)


def launch(world: World, work: Callable[[int], Word]) -> Outcome:
    """Run `work(local)` in each of this pod's processes; the outcome of all of them.

    Call it while this process has one thread and has opened nothing that a fork must not share.
    """
    ranks: list[_Rank] = []
    asked = False
    try:
        for local in range(world.processes):
            ranks.append(_start(work, local))
        _wait_for_failure(ranks)
    except Interrupted:
        asked = True
    # From here on a signal only shortens the wait below.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    _stop(ranks)
    words = [rank.word() for rank in ranks]
    outcome = verdict(words)
    survived = all(word and (word.lost or word.outcome is Outcome.COMPLETED) for word in words)
    if outcome is Outcome.INTERRUPTED and world.replicas > 1 and survived and not asked:
        signal.sigtimedwait({signal.SIGTERM}, CLUSTER_SECONDS)
    return outcome


def verdict(words: Sequence[Word | None]) -> Outcome:
    """One outcome for all ranks: what is wrong with the program outweighs what passes."""
    said = [word.outcome if word else Outcome.INTERRUPTED for word in words]
    of_the_program = (outcome for outcome in said if outcome.of_the_program)
    passing = (Outcome.STORE_UNAVAILABLE, Outcome.INTERRUPTED, Outcome.COMPLETED)
    return next(outcome for outcome in (*of_the_program, *passing) if outcome in said)


def threads(processes: int) -> int:
    """Of each process: they share the processors."""
    return max(1, len(os.sched_getaffinity(0)) // processes)


def _start(work: Callable[[int], Word], local: int) -> _Rank:
    heard, said = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_child, args=(work, local, os.getpid(), said))
    # A signal between the fork and the child's own handling would end it without a word.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    said.close()
    return _Rank(process, heard)


def _child(
    work: Callable[[int], Word], local: int, parent: int, said: connection.Connection
) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(RETRYABLE_EXIT_CODE)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        word = work(local)
    except Interrupted:
        word = Word(Outcome.INTERRUPTED)
    said.send(word)
    # Libraries' exit hooks could still wait for peers that are gone.
    os._exit(EXIT_CODES[word.outcome])


def _wait_for_failure(ranks: Sequence[_Rank]) -> None:
    """Until one has failed or all are done."""
    running = {rank.process.sentinel: rank for rank in ranks}
    while running:
        for sentinel in connection.wait(list(running)):
            rank = running.pop(sentinel)  # type: ignore[arg-type]
            rank.process.join()
            if rank.process.exitcode != 0:
                return


def _stop(ranks: Sequence[_Rank]) -> None:
    """Ask those that still run to end, then end them."""
    for rank in ranks:
        if rank.process.is_alive():
            rank.process.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for rank in ranks:
        rank.process.join(max(0.0, deadline - time.monotonic()))
        if rank.process.is_alive():
            rank.process.kill()
            rank.process.join()
