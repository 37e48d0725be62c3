"""The same as an HTTP_PROXY: the client names the store by an address that only pods resolve."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from faults import wire
from faults.proxy import Call, Exchange, Proxy


class ForwardProxy(Proxy):
    """Sends every request to one store, whatever host it names; the signature covers the name."""

    def _exchange(
        self,
        call: Call,
        request: wire.Message,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> Exchange:
        line, rest = request.head.split(b"\r\n", 1)
        method, target, version = line.decode("latin-1").split(" ")
        at = urlsplit(target)
        path = f"{at.path}?{at.query}" if at.query else at.path
        origin = f"{method} {path} {version}".encode("latin-1")
        return super()._exchange(call, wire.Message(origin + b"\r\n" + rest, request.body), client)
