"""What an attempt at a stage keeps in the output for the next one, until the result is there."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from palimpsest.api.task import canonical_json
from palimpsest.storage import AccessDenied, NotFound

from palimpsest_stage.runtime import Context

PARTS = "attempts/parts/"
CHECKPOINTS = "attempts/checkpoints/"
# Texts in a part that a model makes, which may be lost with a pod. The last rows of a part are not
# replaced: a longer one keeps the processor busier.
PART = 1024


def part_sizes(count: int, size: int = PART) -> list[int]:
    """Sizes of the parts that `count` is made in."""
    return [min(size, count - first) for first in range(0, count, size)]


class Parts:
    """JSON documents by name, in the output's store, where the stage's attempts lie."""

    def __init__(self, context: Context, folder: str = "") -> None:
        """All of the stage's, or those in a folder of them."""
        self._store = context.output
        self._prefix = f"{context.prefix}{PARTS}{folder}"

    def read(self, name: str) -> Any:
        """The document; None if there is none that can be read."""
        try:
            return json.loads(self._store.get(f"{self._prefix}{name}.json"))
        except (NotFound, ValueError):
            return None

    def write(self, name: str, document: Any) -> None:
        """Keep it, in the place of what had that name."""
        self._store.put(f"{self._prefix}{name}.json", canonical_json(document))

    def names(self) -> Iterator[str]:
        """All that is kept, in order."""
        for uri in self._store.list(self._prefix):
            yield uri.removeprefix(self._prefix).removesuffix(".json")


def forget(context: Context) -> None:
    """Delete all that attempts kept. Who may not keeps it: it is as public as the result."""
    with suppress(AccessDenied):
        for place in (PARTS, CHECKPOINTS):
            for uri in list(context.output.list(f"{context.prefix}{place}")):
                context.output.delete(uri)
