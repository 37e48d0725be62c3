"""What the demo prints: a heading a phase, its seconds, and what went wrong in one line."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class DemoError(Exception):
    """One message for the user: what failed and what to do about it."""


def say(text: str = "") -> None:
    """One line, at once."""
    print(text, flush=True)


def clock(seconds: float) -> str:
    """Minutes and seconds, `m:ss`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"


class Phases:
    """Numbered headings; remembers how long each phase took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.monotonic()

    @contextmanager
    def phase(self, name: str, title: str) -> Iterator[None]:
        """Print the title, then the seconds when the phase ends well."""
        say(f"\n== {len(self.seconds) + 1}. {title}")
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 1)
        say(f"   {self.seconds[name]:.1f} s")

    @property
    def total(self) -> float:
        """Seconds since the first phase could begin."""
        return round(time.monotonic() - self._began, 1)


class Live:
    """Lines that are redrawn in place on a terminal, and printed on change elsewhere."""

    QUIET_SECONDS = 15.0

    def __init__(self) -> None:
        self._tty = sys.stdout.isatty()
        self._drawn = 0
        self._said: dict[str, tuple[str, str, float]] = {}

    def show(self, rows: list[tuple[str, str, str]], elapsed: float) -> None:
        """Rows of (label, state, detail)."""
        if self._tty:
            self._redraw(rows)
        else:
            for row in rows:
                self._append(*row, elapsed)

    def _redraw(self, rows: list[tuple[str, str, str]]) -> None:
        if self._drawn:
            print(f"\x1b[{self._drawn}A", end="")
        for label, state, detail in rows:
            print(f"\x1b[2K   {label:<34} {state:<10} {detail[:70]}")
        self._drawn = len(rows)
        sys.stdout.flush()

    def _append(self, label: str, state: str, detail: str, elapsed: float) -> None:
        """A changed state is said at once, mere progress now and then."""
        known = self._said.get(label)
        recent = known is not None and elapsed - known[2] < self.QUIET_SECONDS
        if known and known[0] == state and (recent or known[1] == detail):
            return
        self._said[label] = (state, detail, elapsed)
        say(f"   {clock(elapsed):>6}  {label:<34} {state:<10} {detail}".rstrip())
