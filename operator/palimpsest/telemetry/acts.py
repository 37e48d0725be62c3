"""What a reconcile does: each thing once as a line in the log and as a span in its trace."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from . import logs, traces

log = logging.getLogger(__name__)


@dataclass
class Act:
    """Something under way; `done` is taken back where there was nothing to do."""

    done: bool = True


@contextmanager
def act(what: str, **fields: str) -> Iterator[Act]:
    """Do it in the block; an exception is told by its class alone: texts may quote objects."""
    under_way, made = traces.current(), Act()
    begun = under_way.now() if under_way else 0
    error = ""
    with logs.scope(**fields):
        try:
            yield made
        except Exception as exception:
            error = type(exception).__name__
            log.warning("%s failed", what, extra={"error": error})
            raise
        else:
            if made.done:
                log.info("%s", what)
        finally:
            if under_way and made.done:
                under_way.step(what, begun, fields, error)


def tell(what: str, **fields: str) -> None:
    """What came of a reconcile."""
    with logs.scope(**fields):
        log.info("%s", what)
    if under_way := traces.current():
        under_way.tell(**fields)
