"""What rows of files that people give must be."""

from typing import Any


def text(value: Any) -> str:
    """The value, which must be a text. Raises TypeError, ValueError."""
    if not isinstance(value, str):
        raise TypeError("not a text")
    value.encode()  # half a character is none that a tokenizer takes
    return value
