"""Short-lived processes of this program's own, for what must not stay in its memory."""

import json
import os
import subprocess
import sys
from typing import Any


def ask(module: str, question: Any, seconds: float) -> subprocess.CompletedProcess[str]:
    """What a module of ours writes when it is run and reads `question`, as JSON.

    It finds the libraries that this process has, wherever these lie. Raises TimeoutExpired.
    """
    libraries = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), *sys.path]))
    return subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps(question),
        env={**os.environ, "PYTHONPATH": libraries},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
