"""The same before a Kubernetes API server: TLS and the client's certificate are the proxy's own.

Watches are passed on as they come and can be cut. The client speaks plain HTTP on the loopback and
needs no credentials: it is whoever the kubeconfig says.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from faults import wire
from faults.proxy import Call, Exchange, Fault, Proxy

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ApiProxy(Proxy):
    """Before the API server that a kubeconfig names; calls are made as `user` if one is given."""

    def __init__(self, kubeconfig: Path, user: str = "") -> None:
        document = json.loads(kubeconfig.read_text())
        super().__init__(document["clusters"][0]["cluster"]["server"])
        self._tls = client_context(document)
        self._user = user
        self._idle: list[Streams] = []
        self._watches: set[asyncio.StreamWriter] = set()

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig that leads here."""
        name = "proxied"
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [{"name": name, "cluster": {"server": self.endpoint}}],
            "users": [{"name": name, "user": {}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        }
        path.write_text(json.dumps(document))
        return path

    def cut(self) -> None:
        """Break every watch that is open now."""

        def close() -> None:
            for writer in list(self._watches):
                writer.close()

        self._loop.call_soon_threadsafe(close)

    def _exchange(self, call: Call, request: wire.Message, client: Streams) -> Exchange:
        if self._user:
            line, rest = request.head.split(b"\r\n", 1)
            impersonated = f"\r\nImpersonate-User: {self._user}\r\n".encode()
            request = wire.Message(line + impersonated + rest, request.body)
        return _ApiExchange(self, call, request, client, self._store)

    async def connect(self, fresh: bool = False) -> tuple[Streams, bool]:
        """A connection to the API server, and whether it served before."""
        while self._idle and not fresh:
            streams = self._idle.pop()
            if not streams[1].is_closing():
                return streams, True
        return await asyncio.open_connection(*self._store, ssl=self._tls), False

    def give_back(self, streams: Streams) -> None:
        """The connection can serve again."""
        self._idle.append(streams)

    async def pipe(self, upstream: Streams, client: Streams) -> None:
        """Pass a stream on until either side ends it or it is cut."""
        writer = client[1]
        self._watches.add(writer)

        async def down() -> None:
            while data := await upstream[0].read(65536):
                writer.write(data)
                await writer.drain()

        async def left() -> None:
            await client[0].read(1)

        halves = [asyncio.ensure_future(down()), asyncio.ensure_future(left())]
        try:
            await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for half in halves:
                half.cancel()
            await asyncio.gather(*halves, return_exceptions=True)
            self._watches.discard(writer)
            upstream[1].close()
            writer.close()

    async def _stop(self) -> None:
        for _, writer in self._idle:
            writer.close()
        await super()._stop()


class _ApiExchange(Exchange):
    def __init__(
        self,
        proxy: ApiProxy,
        call: Call,
        request: wire.Message,
        client: Streams,
        server: tuple[str, int],
    ) -> None:
        super().__init__(call, request, client, server)
        self._proxy = proxy

    async def forward(self) -> wire.Message:
        """Send the call to the API server; its answer."""
        streams, used = await self._proxy.connect()
        try:
            answer = await self._ask(streams)
        except (ConnectionError, asyncio.IncompleteReadError):
            streams[1].close()
            if not used:
                raise
            # The server ended an idle connection: it has not seen this call.
            streams, _ = await self._proxy.connect(fresh=True)
            answer = await self._ask(streams)
        self._proxy.give_back(streams)
        return answer

    async def stream(self) -> None:
        """Pass a watch on."""
        streams, _ = await self._proxy.connect(fresh=True)
        streams[1].write(self._request.bytes)
        await self._proxy.pipe(streams, (self._reader, self._writer))

    async def _ask(self, streams: Streams) -> wire.Message:
        reader, writer = streams
        writer.write(self._request.bytes)
        await writer.drain()
        return await wire.read_answer(reader, self.call.method)


def watches(call: Call) -> bool:
    """Whether the call opens a watch."""
    return call.method == "GET" and "watch=true" in call.path


async def passed(exchange: Exchange) -> None:
    """No fault, for a watch too."""
    if watches(exchange.call) and isinstance(exchange, _ApiExchange):
        # Either side may vanish at any time; the client then watches anew.
        with suppress(ConnectionError):
            await exchange.stream()
    else:
        await exchange.answer((await exchange.forward()).bytes)


def refused(status: int, reason: str) -> Fault:
    """The API server says no and has done nothing."""

    async def fault(exchange: Exchange) -> None:
        await exchange.answer(_status(status, reason))

    return fault


def _status(status: int, reason: str) -> bytes:
    told: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "injected",
        "reason": reason,
        "code": status,
    }
    body = json.dumps(told).encode()
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def client_context(document: dict[str, Any]) -> ssl.SSLContext:
    """TLS as the one that a kubeconfig (of the cluster's own, all inline) names."""

    def inline(text: str) -> str:
        return base64.b64decode(text).decode()

    user = document["users"][0]["user"]
    authority = inline(document["clusters"][0]["cluster"]["certificate-authority-data"])
    context = ssl.create_default_context(cadata=authority)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as pem:
        pem.write(inline(user["client-certificate-data"]) + inline(user["client-key-data"]))
        pem.flush()
        context.load_cert_chain(pem.name)
    return context
