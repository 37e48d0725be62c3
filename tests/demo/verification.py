"""`palimpsest verify`, as the custodian's auditor runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from demo.console import DemoError
from demo.ground import Ground


def command(budget: str, ground: Ground, *more: str) -> list[str]:
    """The command line; `kubectl palimpsest verify` is the same."""
    return [
        *("palimpsest", "verify", budget, "--files", *more),
        *("--kubeconfig", str(ground.tools.kubeconfig), "--endpoint", ground.store.endpoint_here),
    ]


def run(budget: str, ground: Ground, *more: str) -> str:
    """What it says of a sound budget. Raises DemoError with what it says of another."""
    program, *arguments = command(budget, ground, *more)
    keys = ground.store.keys["custodian"]
    done = subprocess.run(
        [Path(sys.executable).parent / program, *arguments],
        env={
            **os.environ,
            "AWS_ACCESS_KEY_ID": keys.access_key,
            "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode:
        raise DemoError(
            f"palimpsest verify ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return done.stdout
