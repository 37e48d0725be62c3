"""What runs: version and commit."""

import os
import platform

from palimpsest import __version__

from .catalogue import BOTH, Process, gauge

COMMIT_VARIABLE = "PALIMPSEST_COMMIT"

_BUILD = gauge(
    "palimpsest_build_info",
    "1",
    "1, with what was built: the image's build argument COMMIT says from which commit.",
    {
        "component": BOTH,
        "version": "the release",
        "commit": "the commit, or unknown",
        "python": "Python's version",
    },
    BOTH,
)


def observe(process: Process) -> None:
    """Say what this process is."""
    commit = os.environ.get(COMMIT_VARIABLE) or "unknown"
    _BUILD.labels(process, __version__, commit, platform.python_version()).set(1)
