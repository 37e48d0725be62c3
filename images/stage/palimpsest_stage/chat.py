"""What a chat template must do before anything is asked in it, or learnt.

Tried on a public turn: templates are programs of the model's, and what one does wrong shows in
answers, or in a loss over the wrong tokens, and nowhere else.
"""

from collections.abc import Collection
from typing import Any

from palimpsest_stage.errors import ModelUnsuitable

_ASKED = "Is the sea salt?"
# As answers begin: by a letter, by a number.
_ANSWERS = ("Yes, it is.", "5 parts in 100 are salt.")


def ends_of(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a turn: the tokenizer's, and those that the model's generation names."""
    config = getattr(model, "generation_config", None)
    named = getattr(config, "eos_token_id", None)
    all_named = named if isinstance(named, list) else [named]
    return frozenset(token for token in (tokenizer.eos_token_id, *all_named) if token is not None)


def closing(tokenizer: Any) -> str:
    """What the template writes after an answer; nothing if it shows none."""
    whole = _render(tokenizer, "chatTemplate", opened=False, answer=_ANSWERS[0])
    _, shown, after = whole.rpartition(_ANSWERS[0])
    return after if shown else ""


def ending(tokenizer: Any, ends: Collection[int]) -> list[int]:
    """The tokens that the template writes after an answer, up to the first end; none without it."""
    written = _ids(tokenizer, closing(tokenizer))
    places = [place for place, token in enumerate(written) if token in ends]
    return written[: places[0] + 1] if places else []


def check_asking(tokenizer: Any, field: str, system_prompt: str = "") -> None:
    """Raises ModelUnsuitable unless the template puts an instruction, under a system prompt if any.

    `field` is where it can be replaced.
    """
    if tokenizer.chat_template is None:
        raise ModelUnsuitable(f"{field}: the model has no chat template of its own, give one")
    alone = _render(tokenizer, field, opened=True)
    if _ASKED not in alone:
        raise ModelUnsuitable(
            f"{field}: the chat template leaves the instruction out: it must go over `messages`, "
            "each with `role` and `content`"
        )
    if system_prompt:
        try:
            under = _render(tokenizer, field, opened=True, system_prompt=system_prompt)
        except ModelUnsuitable as error:
            raise ModelUnsuitable(
                f"annotation.systemPrompt: {error}: put it into {field}, or leave it out"
            ) from error
        if under == alone:
            raise ModelUnsuitable(
                "annotation.systemPrompt: the chat template has no place for it, and nothing would "
                f"be answered under it: put it into {field}, or leave it out"
            )


def check_policy(tokenizer: Any, field: str) -> None:
    """Raises ModelUnsuitable unless the template suits a model that is aligned.

    Where a turn of the assistant's has a beginning, add_generation_prompt must write it, or the
    model is asked for another thing than an answer.
    """
    check_asking(tokenizer, field)
    prompt = _render(tokenizer, field, opened=True)
    whole = _render(tokenizer, field, opened=False, answer=_ANSWERS[0])
    closed = _render(tokenizer, field, opened=False)
    if prompt == closed and whole.startswith(prompt) and _ANSWERS[0] in whole:
        begun = whole[len(prompt) : whole.rindex(_ANSWERS[0])].strip()
        if begun:
            raise ModelUnsuitable(
                f"{field}: with add_generation_prompt the chat template does not open the "
                f"assistant's turn with {begun!r}, as it does before an answer"
            )


def check_learning(tokenizer: Any, field: str, ends: Collection[int]) -> None:
    """Raises ModelUnsuitable unless answers can be learnt in the template, and they alone.

    The loss begins where the prompt ends: of prompt and answer together, the prompt's tokens must
    be the first. Of what follows an answer a token must be one of the model's ends, or it would
    never learn to stop.
    """
    check_policy(tokenizer, field)
    prompt = _render(tokenizer, field, opened=True)
    start = _ids(tokenizer, prompt)
    for answer in _ANSWERS:
        whole = _render(tokenizer, field, opened=False, answer=answer)
        if answer not in whole:
            raise ModelUnsuitable(
                f"{field}: the chat template leaves the answer out: it must render the content of "
                "a message whose role is `assistant`"
            )
        if _ids(tokenizer, whole)[: len(start)] != start:
            raise ModelUnsuitable(
                f"{field}: a prompt ({prompt!r}) does not end where its answer begins ({whole!r}): "
                "with add_generation_prompt the chat template must write just what precedes an "
                "answer, and end it where a token ends"
            )
    if not ending(tokenizer, ends):
        named = ", ".join(tokenizer.convert_ids_to_tokens(sorted(ends)))
        raise ModelUnsuitable(
            f"{field}: after an answer the chat template writes {closing(tokenizer)!r}, in which "
            f"no token ends a turn ({named} would): write {{{{ eos_token }}}} there, or name the "
            "token in eos_token_id of the model's generation_config.json"
        )


def check_scoring(tokenizer: Any, field: str) -> None:
    """Raises ModelUnsuitable unless the template shows an instruction and its answer."""
    if tokenizer.chat_template is None:
        raise ModelUnsuitable(f"{field}: the model has no chat template of its own, give one")
    whole = _render(tokenizer, field, opened=False, answer=_ANSWERS[0])
    if _ASKED not in whole or _ANSWERS[0] not in whole:
        raise ModelUnsuitable(f"{field}: the chat template leaves instruction or answer out")


def _render(
    tokenizer: Any, field: str, *, opened: bool, answer: str = "", system_prompt: str = ""
) -> str:
    """A conversation in the template. Raises ModelUnsuitable."""
    messages = [{"role": "user", "content": _ASKED}]
    if system_prompt:
        messages.insert(0, {"role": "system", "content": system_prompt})
    if answer:
        messages.append({"role": "assistant", "content": answer})
    try:
        text: str = tokenizer.apply_chat_template(
            messages, add_generation_prompt=opened, tokenize=False
        )
    # Whatever a foreign program can raise.
    except Exception as error:
        roles = ", ".join(message["role"] for message in messages)
        raise ModelUnsuitable(
            f"{field}: the chat template cannot render {roles}: {error}"
        ) from error
    return text


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
