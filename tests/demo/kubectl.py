"""kubectl and helm as the demo calls them."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.console import DemoError


@dataclass(frozen=True)
class Answer:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Tools:
    """The two programs and the cluster they talk to."""

    kubectl_path: str
    helm_path: str
    kubeconfig: Path

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> Answer:
        """Run kubectl; never raises on a refusal of the API server."""
        return self._run([self.kubectl_path, *arguments], stdin, timeout)

    def helm(self, *arguments: str, timeout: float = 300) -> Answer:
        """Run helm."""
        return self._run([self.helm_path, *arguments], None, timeout)

    def get(self, *arguments: str) -> dict[str, Any]:
        """`kubectl get ... -o json`. Raises DemoError."""
        answer = self.kubectl("get", *arguments, "-o", "json")
        if answer.code:
            raise DemoError(f"kubectl get {' '.join(arguments)}: {last_line(answer.err)}")
        value: dict[str, Any] = json.loads(answer.out)
        return value

    def apply(self, manifests: str, what: str) -> str:
        """`kubectl apply -f -`; what it said. Raises DemoError."""
        answer = self.kubectl("apply", "-f", "-", stdin=manifests)
        if answer.code:
            raise DemoError(f"applying {what} failed: {answer.err.strip()}")
        return answer.out

    def _run(self, command: list[str], stdin: str | None, timeout: float) -> Answer:
        try:
            done = subprocess.run(
                command,
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                text=True,
                timeout=timeout,
                env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
                check=False,
            )
        except FileNotFoundError as missing:
            raise DemoError(f"no program {command[0]}: install it or put it on PATH") from missing
        except subprocess.TimeoutExpired as late:
            raise DemoError(
                f"{Path(command[0]).name} {command[1]} did not answer in {timeout:.0f} s: "
                "does the cluster still run?"
            ) from late
        return Answer(done.returncode, done.stdout, done.stderr)


def last_line(text: str) -> str:
    """The last line that says anything."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"
