"""Stage annotate: answer each instruction with a model under a public system prompt."""

from typing import Any

from palimpsest.api.task import AnnotateParameters

from palimpsest_stage.decode import decode, greedy
from palimpsest_stage.errors import ModelUnsuitable
from palimpsest_stage.models import load_causal
from palimpsest_stage.runtime import Context, write_rows


def run(context: Context, _report: dict[str, Any]) -> None:
    """Publish annotated.jsonl: the input's rows with an `answer` each."""
    parameters = context.parameters(AnnotateParameters)
    rows = context.instructions("selected", "pool")
    model, tokenizer = load_causal(context.model("model"), "bfloat16", parameters.chat_template)
    answers = answer(
        model,
        tokenizer,
        [row["instruction"] for row in rows],
        parameters.system_prompt,
        parameters.max_new_tokens,
        parameters.batch_size,
        context.progress,
    )
    path = write_rows(
        context.folder("out") / "annotated.jsonl",
        [row | {"answer": text} for row, text in zip(rows, answers, strict=True)],
    )
    context.publish({path.name: path})


def chat_prompt(tokenizer: Any, instruction: str, system_prompt: str) -> list[int]:
    """Token ids of one turn in the model's chat format. Raises ModelUnsuitable without one."""
    if tokenizer.chat_template is None:
        raise ModelUnsuitable("the model has no chat template")
    messages = [{"role": "user", "content": instruction}]
    if system_prompt:
        messages.insert(0, {"role": "system", "content": system_prompt})
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


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
    prompts = [chat_prompt(tokenizer, text, system_prompt) for text in instructions]
    # Alike in length together: less padding.
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    answers = [""] * len(prompts)
    ends, sorted_prompts = {tokenizer.eos_token_id}, [prompts[index] for index in order]
    found = decode(model, sorted_prompts, new_tokens, ends, greedy, batch_size)
    for done, (place, ids) in enumerate(found, start=1):
        answers[order[place]] = tokenizer.decode(ids, skip_special_tokens=True).strip()
        progress(done, len(order), "answers")
    return answers
