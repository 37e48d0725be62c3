"""Stage annotate: answer each instruction under a public system prompt.

A model that the pod runs answers, an endpoint that it asks, or people did. Answers are kept in the
output: a pod that follows a killed one has what is missing answered and no more.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from palimpsest.api.task import AnnotateParameters
from palimpsest.storage import StoreError

from palimpsest_stage.answers.finish import Finish, finish_of
from palimpsest_stage.answers.human import joined, parse
from palimpsest_stage.answers.kept import Answer, Answered, Keeper, Part, recall
from palimpsest_stage.chat import check_asking, ends_of
from palimpsest_stage.errors import Interrupted
from palimpsest_stage.parts import Parts
from palimpsest_stage.runtime import Context, write_json, write_rows

Rows = Sequence[dict[str, Any]]
# The input that is asked, if none of the pod's own answers.
ENDPOINT = "endpoint"
# Between two writes of what a model answers: what a killed pod loses beside what is in flight.
WRITE_SECONDS = 1.0


def run(context: Context, _report: dict[str, Any]) -> None:
    """Publish annotated.jsonl, the input's rows with answers, and annotation.json."""
    parameters = context.parameters(AnnotateParameters)
    endpoint = context.task.endpoints.get(ENDPOINT)
    rows = context.instructions("selected", "pool")
    if "answers" in context.task.inputs:
        with context.file("answers").open("rb") as lines:
            made, ends = joined(rows, parse(lines))
        given = sum(ends.values()) - ends.get(Finish.MISSING, 0)
        _publish(context, made, {"answers": given, "finish": ends})
        return
    parts, answered = Parts(context), Answered(len(rows), parameters.answers)
    if endpoint:
        _ask(context, parameters, rows, parts, answered)
    else:
        _generate(context, parameters, rows, parts, answered)
    report = answered.report(endpoint.prices if endpoint else None)
    _publish(context, answered.rows(rows), report)


def _publish(context: Context, rows: list[dict[str, Any]], report: dict[str, Any]) -> None:
    out = context.folder("out")
    write_rows(out / "annotated.jsonl", rows)
    write_json(out / "annotation.json", {"instructions": len(rows), **report})
    context.publish({path.name: path for path in out.iterdir()})


def _ask(
    context: Context,
    parameters: AnnotateParameters,
    rows: Rows,
    parts: Parts,
    answered: Answered,
) -> None:
    """Ask the endpoint for what is missing."""
    # Only here: what speaks HTTP is of no use to a pod that runs a model.
    from palimpsest_stage.answers.endpoint import Manner  # noqa: PLC0415
    from palimpsest_stage.answers.gathering import gather  # noqa: PLC0415

    gather(
        context,
        ENDPOINT,
        Manner(
            parameters.system_prompt,
            parameters.max_new_tokens,
            parameters.temperature,
            parameters.top_p,
        ),
        lambda place: str(rows[place.row]["instruction"]),
        parts,
        answered,
        lambda told: context.progress(told.done, told.wanted, "answers", told.tokens),
    )


def _generate(
    context: Context, parameters: AnnotateParameters, rows: Rows, parts: Parts, answered: Answered
) -> None:
    """Have the model answer what no earlier attempt kept."""
    # Only here: a pod that asks an endpoint needs no torch.
    from palimpsest_stage.models import check_positions, load_causal  # noqa: PLC0415

    model, tokenizer = load_causal(context.model("model"), "bfloat16", parameters.chat_template)
    check_asking(tokenizer, "annotation.model.chatTemplate", parameters.system_prompt)
    prompts = [chat_prompt(tokenizer, row["instruction"], parameters.system_prompt) for row in rows]
    longest = max(map(len, prompts), default=0)
    check_positions(model, longest + parameters.max_new_tokens, "annotation.maxNewTokens")
    recall(parts, answered)
    keeper, written = Keeper(parts, context.attempt, answered), 0.0
    try:
        for answer in _answers(context, parameters, prompts, answered, model, tokenizer):
            keeper.take(Part([answer]))
            context.progress(answered.done, answered.wanted, "answers", answered.tokens)
            if time.monotonic() - written >= WRITE_SECONDS:
                keeper.write()
                written = time.monotonic()
    except Interrupted:
        with suppress(StoreError):
            keeper.write()
        raise
    keeper.write()
    context.progress(answered.done, answered.wanted, "answers", answered.tokens)


def _answers(
    context: Context,
    parameters: AnnotateParameters,
    prompts: Sequence[list[int]],
    answered: Answered,
    model: Any,
    tokenizer: Any,
) -> Iterator[Answer]:
    """The model's answers to what is missing, as they end."""
    import torch  # noqa: PLC0415

    from palimpsest_stage.decode import greedy, nucleus  # noqa: PLC0415

    missing, most = answered.missing(), parameters.max_new_tokens
    choose: Callable[[Any], Any] = greedy
    if parameters.temperature:
        # Answers that an earlier attempt kept have used up the numbers that it began with.
        seed = context.seed(f"annotate/{answered.done}")
        randomness = torch.Generator().manual_seed(seed)
        choose = nucleus(float(parameters.temperature), float(parameters.top_p), randomness)
    asked = [prompts[place.row] for place in missing]
    for index, ids in replies(model, tokenizer, asked, most, choose, parameters.batch_size):
        place = missing[index]
        text = tokenizer.decode(ids, skip_special_tokens=True).strip()
        finish = finish_of(text, cut=len(ids) == most)
        yield Answer(place.row, place.number, text, finish, len(asked[index]), len(ids))


def chat_prompt(tokenizer: Any, instruction: str, system_prompt: str) -> list[int]:
    """Token ids of one turn in the model's chat format."""
    messages = [{"role": "user", "content": instruction}]
    if system_prompt:
        messages.insert(0, {"role": "system", "content": system_prompt})
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def replies(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    new_tokens: int,
    choose: Callable[[Any], Any],
    batch_size: int,
) -> Iterator[tuple[int, list[int]]]:
    """(a prompt's number, the tokens of its reply) of every prompt, as they end."""
    from palimpsest_stage.decode import decode  # noqa: PLC0415 - torch

    # Alike in length together: less padding.
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    sorted_prompts = [prompts[index] for index in order]
    ends = ends_of(model, tokenizer)
    for place, ids in decode(model, sorted_prompts, new_tokens, ends, choose, batch_size):
        yield order[place], ids


def answer(
    model: Any,
    tokenizer: Any,
    instructions: list[str],
    system_prompt: str,
    new_tokens: int,
    batch_size: int,
    progress: Any,
) -> list[str]:
    """Greedy answers, in the instructions' order."""
    from palimpsest_stage.decode import greedy  # noqa: PLC0415 - torch

    prompts = [chat_prompt(tokenizer, text, system_prompt) for text in instructions]
    answers = [""] * len(prompts)
    found = replies(model, tokenizer, prompts, new_tokens, greedy, batch_size)
    for done, (place, ids) in enumerate(found, start=1):
        answers[place] = tokenizer.decode(ids, skip_special_tokens=True).strip()
        progress(done, len(prompts), "answers")
    return answers
