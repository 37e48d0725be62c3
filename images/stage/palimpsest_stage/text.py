"""From an instruction to tokens, the same way in training and in sampling."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from palimpsest_stage.errors import Interrupted

# A record's padded length must be a function of that record alone: padding moves a bf16 gradient
# by far more than rounding, and so would couple records if it followed the longest in the batch.
BUCKET = 8


@dataclass(frozen=True, slots=True)
class Layout:
    """How a sequence is made: start tokens (with the public prompt), instruction, end token."""

    start: tuple[int, ...]
    separator: str
    end: int
    max_length: int


def layout(tokenizer: Any, prompt: str, max_length: int) -> Layout:
    """The layout for a public prompt. Raises ValueError if the prompt leaves no room."""
    start = list(tokenizer(prompt)["input_ids"]) if prompt else []
    if not start:
        first = tokenizer.bos_token_id
        start = [tokenizer.eos_token_id if first is None else first]
    if len(start) + 2 > max_length:
        raise ValueError("maxLength leaves no room after the prompt: raise it or cut the prompt")
    separator = " " if prompt and not prompt[-1].isspace() else ""
    return Layout(tuple(start), separator, tokenizer.eos_token_id, max_length)


def encode(tokenizer: Any, shape: Layout, text: str) -> list[int]:
    """Token ids of a text after the start, cut to fit; none if the tokenizer cannot take it."""
    # Sixteen characters a token is more than any tokenizer needs, and bounds a huge record's cost.
    cut = shape.separator + text[: 16 * shape.max_length]
    ids = unless_refused(lambda: tokenizer(cut, add_special_tokens=False)["input_ids"])
    return [] if ids is None else [*ids, shape.end][: shape.max_length - len(shape.start)]


def unless_refused(tokenise: Callable[[], list[int]]) -> list[int] | None:
    """Token ids of a record; None if the tokenizer cannot take it, whatever that raises."""
    try:
        return tokenise()
    except (Interrupted, KeyboardInterrupt, SystemExit):
        raise
    # A panic in a tokenizer's Rust is no Exception, and says no more about the stage than one.
    except BaseException:
        return None


def bucket(length: int, longest: int) -> int:
    """Padded length for `length` tokens: the next multiple of BUCKET, at most `longest`."""
    return min(-(-length // BUCKET) * BUCKET, longest)
