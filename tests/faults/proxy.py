"""An HTTP proxy before an object store: it counts calls and does to each what a test says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from faults import wire


@dataclass(frozen=True)
class Call:
    """One request of a client, numbered from 0 in order of arrival."""

    number: int
    method: str
    path: str
    conditional: bool

    @property
    def writes(self) -> bool:
        """Whether it asks the store to change something."""
        return self.method not in ("GET", "HEAD")


class Exchange:
    """What a fault may do with a call."""

    def __init__(
        self,
        call: Call,
        request: wire.Message,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        store: tuple[str, int],
    ) -> None:
        self.call = call
        self._request = request
        self._reader, self._writer = client
        self._store = store

    @property
    def body(self) -> bytes:
        """What the client sent."""
        return self._request.body

    async def forward(self) -> wire.Message:
        """Send the call to the store; its answer."""
        reader, writer = await asyncio.open_connection(*self._store)
        try:
            writer.write(self._request.bytes)
            await writer.drain()
            return await wire.read_answer(reader, self.call.method)
        finally:
            writer.close()

    async def answer(self, data: bytes) -> None:
        """Give the client its answer."""
        self._writer.write(data)
        await self._writer.drain()

    def hang_up(self) -> None:
        """Close the client's connection."""
        self._writer.close()

    async def abandoned(self) -> None:
        """Wait until the client gives up."""
        await self._reader.read(1)
        self.hang_up()


Fault = Callable[[Exchange], Awaitable[None]]
Rule = Callable[[Call], Fault]


async def passed(exchange: Exchange) -> None:
    """No fault."""
    await exchange.answer((await exchange.forward()).bytes)


def pass_all(call: Call) -> Fault:
    """A rule without faults."""
    return passed


class Proxy:
    """Listens on a loopback port, in a thread of its own, while its block lasts."""

    def __init__(self, upstream: str) -> None:
        at = urlsplit(upstream)
        assert at.hostname is not None
        assert at.port is not None
        self._store = (at.hostname, at.port)
        self._rule: Rule = pass_all
        self.calls: list[Call] = []
        self.endpoint = ""

    def watch(self, rule: Rule = pass_all) -> None:
        """Count from 0 again, under this rule."""
        self.calls = []
        self._rule = rule

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        serving = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result()
        host, port = self._server.sockets[0].getsockname()
        self.endpoint = f"http://{host}:{port}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client that died or was hung up on: its connection ends, the next one is served.
        with closing(writer), suppress(ConnectionError, asyncio.IncompleteReadError):
            while (request := await wire.read_request(reader, writer)) is not None:
                method, path, _ = request.first
                conditional = request.header("if-none-match") == "*"
                call = Call(len(self.calls), method, path, conditional)
                self.calls.append(call)
                await self._rule(call)(self._exchange(call, request, (reader, writer)))
                if writer.is_closing():
                    return

    def _exchange(
        self,
        call: Call,
        request: wire.Message,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> Exchange:
        return Exchange(call, request, client, self._store)
