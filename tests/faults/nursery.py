"""Processes that cost milliseconds: forked from one that has imported and made all they need.

The parent has no threads and no connections. A child says its number, takes one question, answers
it and ends; a child that was killed answers nothing. All as lines of JSON over a Unix socket.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

TESTS = Path(__file__).parents[1]
Json = dict[str, Any]


class Child:
    """A process that waits for its question."""

    def __init__(self, at: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(at))
        self._lines = self._socket.makefile("r")
        self.pid = int(self._lines.readline())

    def ask(self, question: Json) -> Any:
        """Its answer; None if it died first."""
        with self._socket, self._lines:
            self._socket.sendall(json.dumps(question).encode() + b"\n")
            # The end of the stream is the end of the process: it alone holds the other side.
            line = self._lines.readline()
        return json.loads(line) if line else None

    def kill(self) -> None:
        """SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)


class Nursery:
    """Children of `module`: its `warm(settings)` gives the function that answers questions."""

    def __init__(self, module: str, settings: Json, folder: Path) -> None:
        self._module = module
        self._settings = settings
        self._at = folder / "nursery"

    def child(self) -> Child:
        """A new process."""
        return Child(self._at)

    def __enter__(self) -> Self:
        path = os.pathsep.join((str(TESTS), os.environ.get("PYTHONPATH", "")))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faults.nursery", self._module, str(self._at)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # Not as an argument: it may hold keys.
        self._process.stdin.write(json.dumps(self._settings) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()


def main() -> None:
    module, at = sys.argv[1:]
    answer = import_module(module).warm(json.loads(sys.stdin.readline()))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the children
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(at)
        listening.listen(64)
        print("ready", flush=True)
        while True:
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                with connection, connection.makefile("rw") as lines:
                    lines.write(f"{os.getpid()}\n")
                    lines.flush()
                    lines.write(json.dumps(answer(json.loads(lines.readline()))) + "\n")
                    lines.flush()
                os._exit(0)
            connection.close()


if __name__ == "__main__":
    main()
