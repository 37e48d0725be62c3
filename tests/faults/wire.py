"""As much of HTTP/1.1 as S3 clients and servers speak: whole messages off a stream."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

BLANK = b"\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_EXPECT = re.compile(rb"\r\nexpect:[^\r]*", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)


@dataclass(frozen=True)
class Message:
    """A request or an answer; `head` ends with its blank line."""

    head: bytes
    body: bytes

    @property
    def bytes(self) -> bytes:
        """As it goes over the wire."""
        return self.head + self.body

    @property
    def first(self) -> list[str]:
        """The words of the first line."""
        return self.head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")

    def header(self, name: str) -> str | None:
        """A header's value; None if it is not there."""
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.decode("latin-1").lower() == name:
                return value.strip().decode("latin-1")
        return None


async def read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Message | None:
    """The next request; None when the client has left. What it expects is granted here."""
    try:
        head = await reader.readuntil(BLANK)
    except asyncio.IncompleteReadError:
        return None
    if _EXPECT.search(head):
        # Not part of the signature; the store then answers once.
        head = _EXPECT.sub(b"", head)
        writer.write(CONTINUE)
        await writer.drain()
    if _CHUNKED.search(head):
        raise ValueError("a request in chunks: the journal's client sends none")
    return Message(head, await _sized(reader, head))


async def read_answer(reader: asyncio.StreamReader, method: str) -> Message:
    """The answer to a request of that method."""
    while True:
        head = await reader.readuntil(BLANK)
        status = int(head.split(b" ", 2)[1])
        if status >= 200:
            break
    if method == "HEAD" or status in (204, 304):
        return Message(head, b"")
    if not _CHUNKED.search(head):
        return Message(head, await _sized(reader, head))
    parts = []
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        parts.append(line + await reader.readexactly(size + 2))
        if size == 0:
            return Message(head, b"".join(parts))


async def _sized(reader: asyncio.StreamReader, head: bytes) -> bytes:
    length = _LENGTH.search(head)
    return await reader.readexactly(int(length[1])) if length else b""
