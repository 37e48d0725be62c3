"""What may go wrong with a call to a store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from itertools import count
from typing import Literal

from faults.proxy import Call, Exchange, Fault, Rule, passed

Side = Literal["before", "after"]


def once(chosen: Callable[[Call], bool], fault: Fault, nth: int = 0) -> Rule:
    """A rule: the fault befalls the nth call, from 0, of those that are chosen; all others pass."""
    turn = count()
    return lambda call: fault if chosen(call) and next(turn) == nth else passed


def refused(status: int, code: str) -> Fault:
    """The store says no and has done nothing."""

    async def fault(exchange: Exchange) -> None:
        await exchange.answer(_error(status, code))

    return fault


def failed_after(status: int, code: str) -> Fault:
    """The store did what was asked and says that it failed."""

    async def fault(exchange: Exchange) -> None:
        await exchange.forward()
        await exchange.answer(_error(status, code))

    return fault


async def silent_after(exchange: Exchange) -> None:
    """The store did what was asked and never says so."""
    await exchange.forward()
    await exchange.abandoned()


async def lost(exchange: Exchange) -> None:
    """The connection breaks before the store hears of it."""
    exchange.hang_up()


async def lost_after(exchange: Exchange) -> None:
    """The store did what was asked, then the connection breaks."""
    await exchange.forward()
    exchange.hang_up()


async def truncated(exchange: Exchange) -> None:
    """Half of the body arrives; half of the head, where there is no body."""
    answer = await exchange.forward()
    body = answer.body
    kept = answer.head + body[: len(body) // 2] if body else answer.head[: len(answer.head) // 2]
    await exchange.answer(kept)
    exchange.hang_up()


async def sent_twice(exchange: Exchange) -> None:
    """Something between repeats the call: the store's first answer is lost, the second arrives."""
    await exchange.forward()
    await passed(exchange)


def dying(kill: Callable[[], None], side: Side) -> Fault:
    """The client dies `before` the store hears of its call, or `after`, without the answer."""

    async def fault(exchange: Exchange) -> None:
        if side == "after":
            await exchange.forward()
        kill()
        exchange.hang_up()

    return fault


def met(barrier: threading.Barrier, then: Fault = passed) -> Fault:
    """The call waits until all that the barrier waits for have come. BrokenBarrierError in vain."""

    async def fault(exchange: Exchange) -> None:
        await asyncio.to_thread(barrier.wait)
        await then(exchange)

    return fault


def following(event: threading.Event, seconds: float, then: Fault = passed) -> Fault:
    """The call waits for the event."""

    async def fault(exchange: Exchange) -> None:
        if not await asyncio.to_thread(event.wait, seconds):
            raise TimeoutError("the call that should come first did not")
        await then(exchange)

    return fault


def leading(event: threading.Event, then: Fault = passed) -> Fault:
    """The event happens once the call is over."""

    async def fault(exchange: Exchange) -> None:
        try:
            await then(exchange)
        finally:
            event.set()

    return fault


def _error(status: int, code: str) -> bytes:
    body = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
    head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
