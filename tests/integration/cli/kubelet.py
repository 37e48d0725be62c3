"""A kubelet's word on containers' logs, over TLS as the API server asks for it; and a user."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cluster.fixtures import ControlPlane
from cluster.pki import Authority


class Kubelet:
    """Logs by pod; whoever follows one is sent what comes until `end`."""

    def __init__(self) -> None:
        self.logs: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.port = 0
        self._more = threading.Condition()
        self._ended = False

    def write(self, pod: str, line: str) -> None:
        """The container writes a line."""
        with self._more:
            self.logs.setdefault(pod, []).append(line)
            self._more.notify_all()

    def end(self) -> None:
        """All containers end."""
        with self._more:
            self._ended = True
            self._more.notify_all()

    def lines(self, pod: str, follow: bool) -> Iterator[str]:
        """What a pod wrote; with `follow` what it will, too."""
        told = 0
        while True:
            with self._more:
                while follow and not self._ended and told == len(self.logs.get(pod, [])):
                    self._more.wait()
                new = self.logs.get(pod, [])[told:]
            if not new:
                return
            yield from new
            told += len(new)


@contextmanager
def kubelet(plane: ControlPlane) -> Iterator[Kubelet]:
    """One that serves while the block lasts."""
    told = Kubelet()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            told.asked.append(self.path)
            query = parse_qs(address.query)
            pod = address.path.split("/")[3]
            self.send_response(200)
            self.end_headers()
            lines = told.lines(pod, query.get("follow") == ["true"])
            if "tailLines" in query:
                lines = iter(list(lines)[-int(query["tailLines"][0]) :])
            for line in lines:
                self.wfile.write(f"{line}\n".encode())
                self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Says nothing."""

    identity = Authority(plane.folder / "pki").sign("kubelet", names=("127.0.0.1",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    told.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield told
    finally:
        told.end()
        server.shutdown()
        server.server_close()


def kubeconfig_of(plane: ControlPlane, user: str, folder: Path) -> Path:
    """A kubeconfig by which the API server knows this user."""
    authority = Authority(plane.folder / "pki")
    return authority.kubeconfig(folder / f"{user}.conf", plane.server, authority.sign(user))
