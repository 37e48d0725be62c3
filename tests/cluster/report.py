"""What the set-up says: one line a step with its seconds, one line an error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class ClusterError(Exception):
    """One line for the user: what failed and what to do about it."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Prints the title at once, and again with its seconds when the step ends well."""
    say(f"  ... {title}")
    began = time.monotonic()
    yield
    say(f"  ok  {title}: {time.monotonic() - began:.1f} s")
