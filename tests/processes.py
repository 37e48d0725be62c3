"""What the kernel tells of a process, and how to hold one."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Literal


def memory(pid: int, line: Literal["VmRSS", "VmHWM"]) -> int:
    """Bytes of it that are resident now (VmRSS), or the most that ever were (VmHWM).

    Of this program alone: getrusage's figure outlives fork and exec, so it may be the parent's.
    """
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * int(next(each for each in status if each.startswith(f"{line}:")).split()[1])


def processor_seconds(pid: int) -> float:
    """Of all its threads so far, in the program and in the kernel."""
    # After the program's name, which may hold spaces; utime and stime are the 14th and 15th field.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def signal_pod(name: str, number: signal.Signals) -> bool:
    """A signal to all processes of a pod on this machine whose POD_NAME is `name`.

    False if it has none yet: a container counts as running a moment before its program does.
    """
    # Not by HOSTNAME: an Indexed Job gives its pods names of their own there.
    mark = f"POD_NAME={name}\0".encode()
    found = False
    for environ in Path("/proc").glob("[0-9]*/environ"):
        # Others come and go meanwhile.
        with suppress(OSError):
            if mark in environ.read_bytes():
                os.kill(int(environ.parent.name), number)
                found = True
    return found
