"""A chat completions server with faults on order: a process of its own, and its handle.

`python -m unit.stage.chat_server [FOLDER]` says its port and serves until it is killed; over TLS if
FOLDER holds tls.crt and tls.key.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HANG_SECONDS = 600


@dataclass
class Orders:
    """What the next requests meet (`faults`, then `then`), and `odd` instructions whenever asked.

    With a `judge` answers are verdicts: `strict` ones, or that word whatever is asked.

    A fault is `answer`, `drop`, `garbage`, `half`, `hang`, `endless`, or a status with, after a
    colon, its Retry-After or Location.
    """

    faults: list[str] = field(default_factory=list)
    then: str = "answer"
    odd: dict[str, str] = field(default_factory=dict)
    replies: dict[str, dict[str, Any]] = field(default_factory=dict)
    delay: float = 0.0
    newer: bool = False
    judge: str = ""


@dataclass
class Seen:
    """What the server saw."""

    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    keys: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    elsewhere: int = 0
    most_at_once: int = 0


@dataclass(frozen=True)
class ChatServer:
    """A running server."""

    root: str

    @property
    def base_url(self) -> str:
        return f"{self.root}/v1"

    def order(self, **orders: Any) -> None:
        """What it does from now on."""
        self._ask("/orders", json.dumps(orders).encode())

    def seen(self) -> Seen:
        """What it saw so far."""
        told = self._ask("/seen")
        counts = {name: Counter(told[name]) for name in ("asked", "answered")}
        return Seen(**{**told, **counts})

    def _ask(self, path: str, data: bytes | None = None) -> dict[str, Any]:
        anyone = ssl._create_unverified_context()
        with urllib.request.urlopen(f"{self.root}{path}", data, context=anyone) as answer:
            told: dict[str, Any] = json.load(answer)
        return told


@contextmanager
def serving(certificates: Path | None = None) -> Iterator[ChatServer]:
    """A server while the block lasts."""
    program = [sys.executable, "-m", "unit.stage.chat_server"]
    program += [str(certificates)] if certificates else []
    scheme = "https" if certificates else "http"
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield ChatServer(f"{scheme}://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.kill()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    orders, seen = Orders(), Seen()
    lock = threading.Lock()
    now = 0

    def do_GET(self) -> None:
        if self.path == "/seen":
            with self.lock:
                self._reply(200, vars(self.seen))
        else:
            type(self).seen.elsewhere += 1
            self._reply(200, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/orders":
            _Handler.orders = Orders(**body)
            self._reply(200, {})
        elif self.path == "/v1/chat/completions":
            self._chat(body)
        else:
            self.seen.elsewhere += 1
            self._reply(200, {})

    def _chat(self, body: dict[str, Any]) -> None:
        instruction = body["messages"][-1]["content"]
        with self.lock:
            _Handler.now += 1
            self.seen.most_at_once = max(self.seen.most_at_once, self.now)
            self.seen.asked[instruction] += 1
            self.seen.keys.append(self.headers.get("Authorization", ""))
            self.seen.bodies.append(body)
            fault = self.orders.faults.pop(0) if self.orders.faults else self.orders.then
            fault = self.orders.odd.get(instruction, fault)
        try:
            time.sleep(self.orders.delay)
            self._meet(fault, instruction, body)
        finally:
            with self.lock:
                _Handler.now -= 1

    def _meet(self, fault: str, instruction: str, body: dict[str, Any]) -> None:
        if fault == "answer":
            if self.orders.newer and "max_tokens" in body:
                return self._reply(400, {"error": {"param": "max_tokens"}})
            told = {"content": f"Yes: {instruction}", "finish_reason": "stop"}
            if self.orders.judge:
                told["content"] = verdict(self.orders.judge, instruction)
            told |= self.orders.replies.get(instruction, {})
            with self.lock:
                self.seen.answered[instruction] += 1
            return self._reply(200, completion(**told))
        if fault == "garbage":
            return self._send(200, b"<html>It works!</html>")
        if fault == "half":
            data = json.dumps(completion("Yes", "stop")).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            return self._close()
        if fault == "drop":
            return self._close()
        if fault == "hang":
            return time.sleep(HANG_SECONDS)
        if fault == "endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b" " * 2**16)
            except OSError:
                return self._close()
        status, _, value = fault.partition(":")
        name = "Location" if status.startswith("3") else "Retry-After"
        return self._send(int(status), b"{}", {name: value} if value else {})

    def _close(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _reply(self, status: int, value: Any) -> None:
        self._send(status, json.dumps(value).encode())

    def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def verdict(judge: str, question: str) -> str:
    """What a judge says, who thinks aloud first; the strict one counts words that are not asked."""
    if judge != "strict":
        return judge
    asked, *answers = re.split(r"\n\n(?:Answer(?: [AB])?:|Which [^\n]*)\n?", question)
    new = [len(set(answer.split()) - set(asked.split())) for answer in answers[:-1]]
    if len(new) == 1:
        return f"New words make a good answer.\n{min(10, 1 + new[0])}/10"
    word = "TIE" if new[0] == new[1] else "AB"[new[1] > new[0]]
    return f"I would say so.\n\n**{word}**"


def completion(content: str | None, finish_reason: str, **message: Any) -> dict[str, Any]:
    """A chat completion as OpenAI documents it."""
    told = {"role": "assistant", "content": content, **message}
    return {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": told, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13},
    }


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    if len(sys.argv) > 1:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(Path(sys.argv[1]) / "tls.crt", Path(sys.argv[1]) / "tls.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    print(server.server_port, flush=True)
    server.serve_forever()
