"""The operator's own calls of object stores."""

from typing import Literal

from .catalogue import counter, start_at_zero

Class = Literal["AccessDenied", "Unavailable", "Refused"]
_CLASSES = ("AccessDenied", "Unavailable", "Refused")
OPERATIONS = ("get", "put", "put_if_absent", "size")

_CALLS = counter(
    "palimpsest_objectstore_operations_total",
    "operations",
    "Operations that the operator asked of object stores.",
    {"operation": OPERATIONS},
)
_ERRORS = counter(
    "palimpsest_objectstore_errors_total",
    "operations",
    "Of these, those that failed: access denied, no answer (or an answer that it cannot serve "
    "now), refused for another reason. An object that is not there is no error.",
    {"operation": OPERATIONS, "class": _CLASSES},
)

start_at_zero(_CALLS, OPERATIONS)
start_at_zero(_ERRORS, OPERATIONS, _CLASSES)


def asked(operation: str) -> None:
    """A store was asked."""
    _CALLS.labels(operation).inc()


def failed(operation: str, error: Class) -> None:
    """It did not do it."""
    _ERRORS.labels(operation, error).inc()
