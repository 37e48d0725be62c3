"""Structured logs: one JSON object a line on standard error."""

import json
import logging
import os
import sys
from datetime import UTC, datetime

LEVEL_VARIABLE = "PALIMPSEST_LOG_LEVEL"

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message and whatever was passed as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line. An exception is named by its type and text, without the stack above DEBUG."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{key: value for key, value in record.__dict__.items() if key not in _STANDARD},
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line["error"] = f"{type(error).__name__}: {error}"
            if logging.getLogger().isEnabledFor(logging.DEBUG):
                line["stack"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def configure() -> None:
    """Log from the level in PALIMPSEST_LOG_LEVEL (default info). Raises ValueError if unknown."""
    name = os.environ.get(LEVEL_VARIABLE, "info").upper()
    levels = logging.getLevelNamesMapping()
    if name not in levels:
        raise ValueError(f"{LEVEL_VARIABLE}={name.lower()}: use debug, info, warning or error")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(levels[name])
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
        logging.getLogger(chatty).setLevel(max(levels[name], logging.WARNING))
