"""A model hub of two endpoints: a commit's tree, and its files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Hub:
    """`folder` as repository `name` at one commit. `token`: who does not show it is refused."""

    name: str
    revision: str
    folder: Path
    token: str = ""
    status: int = 200
    asked: list[str] = field(default_factory=list)
    endpoint: str = ""

    def files(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }

    @contextmanager
    def serving(self, address: str = "127.0.0.1", port: int = 0) -> Iterator[Hub]:
        """Answer at `endpoint` while the block lasts; port 0: any that is free."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                path = self.path.partition("?")[0]
                hub.asked.append(path)
                shown = self.headers.get("Authorization", "")
                if hub.status != 200:
                    return self.reply(hub.status, b"", body)
                if hub.token and shown != f"Bearer {hub.token}":
                    return self.reply(401, b"", body)
                tree = f"/api/models/{hub.name}/tree/{hub.revision}"
                if path == tree:
                    return self.reply(200, json.dumps(hub.tree()).encode(), body)
                prefix = f"/{hub.name}/resolve/{hub.revision}/"
                data = hub.files().get(path.removeprefix(prefix))
                if not path.startswith(prefix) or data is None:
                    return self.reply(404, b"", body)
                return self.reply(200, data, body)

            def reply(self, status: int, data: bytes, body: bool) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Content-Type", "application/json")
                self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
                self.send_header("X-Repo-Commit", hub.revision)
                self.end_headers()
                if body:
                    self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer((address, port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.endpoint = f"http://{address}:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def tree(self) -> list[dict[str, object]]:
        return [
            {
                "type": "file",
                "path": name,
                "size": len(data),
                "oid": hashlib.sha1(data, usedforsecurity=False).hexdigest(),
            }
            for name, data in self.files().items()
        ]
