"""Runs programs: quiet when they succeed, one clear error line when they do not."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.report import ClusterError


def run(
    command: Sequence[str | Path],
    *,
    what: str,
    remedy: str = "",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    log: Path | None = None,
    nice: bool = False,
) -> str:
    """The command's standard output.

    Raises ClusterError "<what> failed: <its last words>. <remedy>". With `log`, all output is kept.
    """
    arguments = [str(part) for part in command]
    try:
        done = subprocess.run(
            ["nice", "-n", "10", *arguments] if nice else arguments,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError as missing:
        raise ClusterError(f"{what} failed: no program {arguments[0]!r}. {remedy}") from missing
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(done.stdout + done.stderr)
    if done.returncode != 0:
        kept = f" (all of it: {log})" if log else ""
        raise ClusterError(f"{what} failed: {_last_words(done)}{kept}. {remedy}".rstrip())
    return done.stdout


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("E:", "error:", "Error:", "ERROR:"))]
    said = telling[:1] or lines[-1:] or [f"exit status {done.returncode}"]
    return said[0].rstrip(".")
