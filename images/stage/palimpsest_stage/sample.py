"""Stage sample: draw instructions from the generator. Post-processing of a DP release."""

import json
from typing import Any

import torch
from palimpsest.api.task import SampleParameters

from palimpsest_stage import lora
from palimpsest_stage.decode import decode, nucleus
from palimpsest_stage.errors import InputMismatch
from palimpsest_stage.models import load_causal
from palimpsest_stage.runtime import Context, write_rows
from palimpsest_stage.text import layout

GENERATOR = "generator.json"
# An instruction without text is drawn anew this often, then left out. Duplicates stay: removing
# them would bend the distribution that the histogram is to correct.
REDRAWS = 8


def run(context: Context, _report: dict[str, Any]) -> None:
    """Publish instructions.jsonl: rows {id, instruction}."""
    parameters = context.parameters(SampleParameters)
    base, generator = context.model("base"), context.artifact("generator")
    try:
        prompt = json.loads((generator / GENERATOR).read_text())["prompt"]
    except (OSError, ValueError, KeyError) as error:
        raise InputMismatch("generator: generator.json cannot be read") from error
    model, tokenizer = load_causal(base, "bfloat16")
    lora.merge(model, generator)

    shape = layout(tokenizer, prompt, model.config.max_position_embeddings)
    randomness = torch.Generator().manual_seed(context.seed("sample"))
    choose = nucleus(float(parameters.temperature), float(parameters.top_p), randomness)
    wanted = share(parameters.count, parameters.shards, context.shard)
    texts: list[str] = []
    fruitless = 0
    while len(texts) < wanted and fruitless < REDRAWS:
        rows = min(parameters.batch_size, wanted - len(texts))
        ids = decode(model, [shape.start] * rows, parameters.max_length, shape.end, choose)
        drawn = [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
        kept = [text for text in drawn if text]
        fruitless = 0 if kept else fruitless + 1
        texts += kept
        context.progress(len(texts), wanted, "instructions")
    rows_out = [
        {"id": f"{context.shard}-{index}", "instruction": text} for index, text in enumerate(texts)
    ]
    path = write_rows(context.folder("out") / "instructions.jsonl", rows_out)
    context.publish({path.name: path})


def share(count: int, shards: int, shard: int) -> int:
    """Instructions that a shard draws; over all shards they sum to `count`."""
    return count // shards + (shard < count % shards)
