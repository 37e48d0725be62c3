"""An instruction and its answer in tokens, as a model learns them."""

from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from palimpsest_stage.alignment.rewards import conversation
from palimpsest_stage.annotate import chat_prompt
from palimpsest_stage.chat import closing


@dataclass(frozen=True)
class Turn:
    """What is given, and what follows it and is learnt."""

    prompt: list[int]
    answer: list[int]


def turn(tokenizer: Any, instruction: str, answer: str, cut: bool) -> Turn:
    """Both in the chat format. What the template writes after an answer is none of a `cut` one's.

    Its annotator had more to say: a model that learnt an end there would learn to stop in midst.
    """
    text = conversation(tokenizer, instruction, answer)
    if cut:
        text = text.removesuffix(closing(tokenizer))
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    # Where a token spans the two, the answer begins with it.
    both = zip(chat_prompt(tokenizer, instruction, ""), ids, strict=False)
    begins = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], both))
    return Turn(ids[:begins], ids[begins:])
