"""What the kernel tells of a process."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def memory(pid: int, line: Literal["VmRSS", "VmHWM"]) -> int:
    """Bytes of it that are resident now (VmRSS), or the most that ever were (VmHWM).

    Of this program alone: getrusage's figure outlives fork and exec, so it may be the parent's.
    """
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * int(next(each for each in status if each.startswith(f"{line}:")).split()[1])
