"""Files that people give: their lines, and what rows must be."""

from collections.abc import Iterator
from typing import Any

from palimpsest_stage.errors import InputMismatch
from palimpsest_stage.runtime import Context


def lines(context: Context, name: str, field: str) -> Iterator[tuple[str, str]]:
    """(place, line) of the file input called so, of `field`; empty lines are none.

    A place is "FIELD, line N". Raises InputMismatch where the file is not in UTF-8.
    """
    try:
        with context.file(name).open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{field}, line {number}", line
    except UnicodeDecodeError as error:
        raise InputMismatch(f"{field}: the file is not in UTF-8") from error


def text(value: Any) -> str:
    """The value, which must be a text. Raises TypeError, ValueError."""
    if not isinstance(value, str):
        raise TypeError("not a text")
    value.encode()  # half a character is none that a tokenizer takes
    return value
