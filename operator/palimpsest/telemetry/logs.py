"""Structured logs: one JSON object a line on standard error.

docs/logs-and-events.md lists the fields. What a line is about is bound around the work, once.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType

LEVEL_VARIABLE = "PALIMPSEST_LOG_LEVEL"
LEVELS = ("debug", "info", "warning", "error")

_bound: ContextVar[Mapping[str, str]] = ContextVar("bound", default=MappingProxyType({}))

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


@contextmanager
def scope(**fields: str) -> Iterator[None]:
    """Lines of the block have these fields; what is bound within ends with it."""
    token = _bound.set(_bound.get())
    bind(**fields)
    try:
        yield
    finally:
        _bound.reset(token)


def bind(**fields: str) -> None:
    """Further lines of this scope have these fields; empty ones are left out."""
    _bound.set({**_bound.get(), **{name: value for name, value in fields.items() if value}})


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message, what is bound, and whatever was passed as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line. An exception is named by its type and text, without the stack above DEBUG."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_bound.get(),
            **{key: value for key, value in record.__dict__.items() if key not in _STANDARD},
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line["error"] = f"{type(error).__name__}: {error}"
            if logging.getLogger().isEnabledFor(logging.DEBUG):
                line["stack"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def level() -> str:
    """What PALIMPSEST_LOG_LEVEL says (default info). Raises ValueError if it is no level."""
    name = os.environ.get(LEVEL_VARIABLE, "info").lower()
    if name not in LEVELS:
        raise ValueError(f"{LEVEL_VARIABLE}={name}: use {', '.join(LEVELS[:-1])} or {LEVELS[-1]}")
    return name


def configure() -> None:
    """Log from `level()` on, which may raise ValueError."""
    least = logging.getLevelNamesMapping()[level().upper()]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(least)
    # What these say at info is about their own requests.
    for chatty in (
        "kopf",
        "kubernetes",
        "urllib3",
        "botocore",
        "boto3",
        "s3transfer",
        "aiohttp.access",
    ):
        logging.getLogger(chatty).setLevel(max(least, logging.WARNING))
