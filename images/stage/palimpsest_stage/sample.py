"""Stage sample: draw instructions from the generator. Post-processing of a DP release.

A shard draws its instructions in parts, each from a seed of its own, and keeps a part in the output
as soon as it is drawn: a pod that follows a killed one draws what is missing and no more.
"""

import json
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from palimpsest.api.task import SampleParameters

from palimpsest_stage import lora
from palimpsest_stage.decode import decode, nucleus
from palimpsest_stage.errors import InputMismatch, ModelUnsuitable
from palimpsest_stage.models import check_positions, load_causal
from palimpsest_stage.parts import Parts, part_sizes
from palimpsest_stage.runtime import Context, write_json, write_rows
from palimpsest_stage.text import layout

GENERATOR = "generator.json"
# Instructions without text are drawn anew until so many rounds of it bring none, then left out.
# Duplicates stay: removing them would bend the distribution that the histogram is to correct.
REDRAWS = 8


@dataclass
class Drawn:
    """Instructions, how many tokens were drawn for them, and how many times none had text."""

    texts: list[str] = field(default_factory=list)
    tokens: int = 0
    empty: int = 0

    def add(self, other: "Drawn") -> None:
        """Take in what another part drew."""
        self.texts += other.texts
        self.tokens += other.tokens
        self.empty += other.empty


def run(context: Context, _report: dict[str, Any]) -> None:
    """Publish instructions.jsonl ({id, instruction}) and sampling.json."""
    parameters = context.parameters(SampleParameters)
    base, generator = context.model("base"), context.artifact("generator")
    try:
        trained = json.loads((generator / GENERATOR).read_text())
        prompt, longest = str(trained["prompt"]), int(trained["maxLength"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputMismatch("generator: generator.json cannot be read") from error
    model, tokenizer = load_causal(base, "bfloat16")
    lora.merge(model, generator)
    shape = layout(tokenizer, prompt, longest)
    check_positions(model, len(shape.start) + parameters.max_length, "sampling.maxLength")
    ends = {shape.end, *stop_tokens(tokenizer, parameters.stop_tokens)}
    wanted = share(parameters.count, parameters.shards, context.shard)
    drawn, parts = Drawn(), Parts(context)

    def some(randomness: torch.Generator, rows: int) -> Drawn:
        choose = nucleus(
            float(parameters.temperature), float(parameters.top_p), randomness, parameters.top_k
        )
        ids: list[list[int]] = [[]] * rows
        ended = decode(
            model,
            [shape.start] * rows,
            parameters.max_length,
            ends,
            choose,
            parameters.batch_size,
        )
        for done, (number, found) in enumerate(ended, start=len(drawn.texts) + 1):
            ids[number] = found
            if done < wanted:
                context.progress(done, wanted, "instructions", drawn.tokens)
        texts = [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
        kept = [text for text in texts if text]
        return Drawn(kept, sum(map(len, ids)), len(texts) - len(kept))

    for number, size in enumerate(part_sizes(wanted)):
        name = f"{number:06d}"
        part = _kept(parts, name)
        if part is None:
            randomness = torch.Generator().manual_seed(context.seed(f"sample/{number}"))
            part = draw(size, partial(some, randomness))
            parts.write(name, asdict(part))
        drawn.add(part)
        context.progress(len(drawn.texts), wanted, "instructions", drawn.tokens)
    _publish(context, drawn)


def draw(wanted: int, some: Callable[[int], Drawn]) -> Drawn:
    """So many instructions with text, from `some` (how many); fewer if the generator has none."""
    drawn, fruitless = Drawn(), 0
    while len(drawn.texts) < wanted and fruitless < REDRAWS:
        batch = some(wanted - len(drawn.texts))
        fruitless = 0 if batch.texts else fruitless + 1
        drawn.add(batch)
    return drawn


def stop_tokens(tokenizer: Any, texts: Collection[str]) -> set[int]:
    """Their ids. Raises ModelUnsuitable unless each is one token."""
    found = set()
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            raise ModelUnsuitable(
                f"sampling.stopTokens: {text!r} is {len(ids)} tokens of this generator, not one"
            )
        found.update(ids)
    return found


def share(count: int, shards: int, shard: int) -> int:
    """Instructions that a shard draws; over all shards they sum to `count`."""
    return count // shards + (shard < count % shards)


def _kept(parts: Parts, name: str) -> Drawn | None:
    """A part that an earlier attempt drew; None if there is none that can be read."""
    try:
        return Drawn(**parts.read(name))
    except TypeError:
        return None


def _publish(context: Context, drawn: Drawn) -> None:
    out = context.folder("out")
    rows = [
        {"id": f"{context.shard}-{index}", "instruction": text}
        for index, text in enumerate(drawn.texts)
    ]
    write_rows(out / "instructions.jsonl", rows)
    summary = {
        "instructions": len(rows),
        "tokens": drawn.tokens,
        "emptyDrawnAnew": drawn.empty,
        "exactDuplicates": len(rows) - len(set(drawn.texts)),
    }
    write_json(out / "sampling.json", summary)
    context.publish({path.name: path for path in out.iterdir()})
