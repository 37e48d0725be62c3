"""Asks an endpoint for many answers at once, with patience, and hands them over as they come."""

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue

from palimpsest.api.outcomes import Outcome
from palimpsest.api.task import EndpointAccess

from palimpsest_stage.answers.endpoint import FAILED, Endpoint, PassingError, Reply
from palimpsest_stage.answers.finish import UNTAKEN
from palimpsest_stage.answers.kept import FULL, Answer, Part, Place
from palimpsest_stage.answers.policy import (
    MOST_ALONE,
    MOST_FAILURES,
    MOST_REJECTED,
    OWN,
    Gate,
    Patience,
    backoff,
)
from palimpsest_stage.errors import EndpointFailed

# Asked where an instruction has no answer, to see whether anything has.
PROBE = "Say yes."

log = logging.getLogger("palimpsest.stage")


@dataclass(frozen=True)
class Question:
    """An instruction, and the place that its answer goes to."""

    place: Place
    instruction: str


class Asking:
    """Answers to questions, each asked until it is settled. One event loop's own."""

    def __init__(
        self,
        endpoint: Endpoint,
        access: EndpointAccess,
        any_taken: bool,
        tell: Callable[[Part], None],
    ) -> None:
        """`any_taken`: the endpoint has answered before. `tell` takes each request's end."""
        self._endpoint, self._concurrency = endpoint, access.concurrency
        self._gate = Gate(access.requests_per_minute)
        self._patience = Patience(access.patience_seconds)
        self._probing = asyncio.Lock()
        self._tell = tell
        self._any_taken = any_taken
        # Held back until an answer shows that it is the instructions that are not taken.
        self._rejected: list[Answer] = []

    async def ask(self, questions: Sequence[Question]) -> None:
        """Settle all. Raises EndpointFailed."""
        waiting = iter(questions)
        async with self._endpoint:
            workers = [
                asyncio.create_task(self._work(waiting))
                for _ in range(min(self._concurrency, len(questions)))
            ]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
        if self._rejected:
            raise EndpointFailed(Outcome.ENDPOINT_REFUSED, "nothing that was asked was taken")

    async def _work(self, waiting: Iterator[Question]) -> None:
        for question in waiting:
            self._settle(question.place, await self._reply(question.instruction))

    async def _reply(self, instruction: str) -> Reply:
        failures = alone = 0
        while True:
            await self._turn()
            begun = time.monotonic()
            try:
                reply = await self._endpoint.ask(instruction)
            except PassingError as error:
                failures += 1
                self._patience.failure(error.outcome, begun)
                if error.outcome in OWN and failures > MOST_FAILURES and await self._answers():
                    alone += 1
                    if alone == MOST_ALONE:
                        log.warning("%s: for one instruction alone, given up", error.outcome.value)
                        return FAILED
                self._tell(Part(requests=1, retries={error.outcome.value: 1}))
                await self._pause(error, failures)
            else:
                self._patience.success(time.monotonic())
                return reply

    async def _answers(self) -> bool:
        """Whether the endpoint answers anything now, which is a success as any other."""
        try:
            reply = await self._endpoint.ask(PROBE)
        except PassingError as error:
            self._tell(Part(requests=1, retries={error.outcome.value: 1}))
            return False
        self._tell(Part(requests=1))
        if reply.finish in UNTAKEN:
            return False
        self._patience.success(time.monotonic())
        return True

    async def _turn(self) -> None:
        """Wait until a request may go."""
        while wait := self._gate.wait(time.monotonic()):
            await self._sleep(wait)

    async def _pause(self, error: PassingError, failures: int) -> None:
        pause = backoff(failures, random.random())  # noqa: S311 - nobody gains by guessing it
        if error.pause is not None:
            # One that asks for a day is waited for while patience lasts, and asked again only if
            # another request has succeeded by then.
            pause = max(pause, min(error.pause, self._patience.seconds))
        log.info("%s: asked again in %.1f s", error.outcome.value, pause)
        if error.outcome is Outcome.ENDPOINT_RATE_LIMITED or error.pause is not None:
            # It is not this request's affair: all others hold back too.
            self._gate.hold(time.monotonic() + pause)
        await self._sleep(pause)

    async def _sleep(self, seconds: float) -> None:
        """Sleep so long at most. Raises EndpointFailed when patience is spent."""
        await asyncio.sleep(min(seconds, self._patience.left(time.monotonic())))
        async with self._probing:
            if self._patience.left(time.monotonic()) > 0:
                return
            # All that is left may be instructions that it fails at.
            seen = self._patience.mostly
            if not await self._answers():
                raise EndpointFailed(seen, "no request succeeded for patienceSeconds")

    def _settle(self, place: Place, reply: Reply) -> None:
        answer = Answer(
            place.row, place.number, reply.text, reply.finish, reply.tokens_in, reply.tokens_out
        )
        if reply.finish in UNTAKEN and not self._any_taken:
            self._rejected.append(answer)
            if len({rejected.row for rejected in self._rejected}) >= MOST_REJECTED:
                raise EndpointFailed(Outcome.ENDPOINT_REFUSED, "nothing that was asked was taken")
            return
        self._any_taken = True
        settled, self._rejected = [*self._rejected, answer], []
        self._tell(Part(answers=settled, requests=len(settled)))


class Mailbox:
    """What an Asking in a thread of its own tells, gathered up for a slower reader.

    The stage's own thread must be free for signals, and for a store that waits.
    """

    def __init__(self, asking: Callable[[Callable[[Part], None]], Asking]) -> None:
        self._told = SimpleQueue[Part | None]()
        # Out of the queue and not handed over yet: an interrupt between must not lose it.
        self._came = Part()
        self._asking = asking(self._told.put)
        self._thread: threading.Thread | None = None
        self._begun = threading.Event()
        self._cancel: Callable[[], object] | None = None
        self._failure: BaseException | None = None
        self._ended = False

    def ask(self, questions: Sequence[Question]) -> Iterator[Part]:
        """Everything that came since the last one was taken, again and again, until all is there.

        Raises what ended the asking, after all that came before.
        """

        async def asked() -> None:
            work = asyncio.ensure_future(self._asking.ask(questions))
            self._cancel = partial(work.get_loop().call_soon_threadsafe, work.cancel)
            self._begun.set()
            await work

        def settle() -> None:
            try:
                asyncio.run(asked())
            except BaseException as error:
                self._failure = error
            finally:
                self._begun.set()
                self._told.put(None)

        self._thread = threading.Thread(target=settle, daemon=True)
        self._thread.start()
        yield from self._taken()
        if self._failure:
            raise self._failure

    def stop(self) -> Iterator[Part]:
        """Ask nothing more and give up what is under way; everything that came and was not taken.

        What was answered while that is written would be asked, and paid for, again.
        """
        if self._thread is None:
            return
        self._begun.wait()
        if self._cancel is not None:
            with suppress(RuntimeError):  # its loop may have ended by itself
                self._cancel()
        self._thread.join()
        yield from self._taken()

    def _taken(self) -> Iterator[Part]:
        while not self._ended:
            self._gather()
            if self._came.requests:
                part, self._came = self._came, Part()
                yield part

    def _gather(self) -> None:
        while (told := self._told.get()) is not None:
            self._came.add(told)
            if self._told.empty() or len(self._came.answers) >= FULL:
                return
        self._ended = True
