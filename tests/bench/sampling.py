"""Benchmark of the sample stage's decode loop, on outputs that end where they end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch

from bench.decoding import TOP_P, generated
from bench.harness import Benchmark, Pair
from bench.rates import counted, smollm2

# Instructions a measurement; rows at once as in the quickstart.
COUNT, ROWS, LONGEST = 256, 128, 32
BATCHES = (32, 64, 128, 256)
PROMPT = "A question typed into a search engine:"
# A question ends with its mark: the base model would go on.
STOPS = ("?", "\n", ".")


def _ours(prompt: list[int], ends: set[int]) -> Callable[[], int]:
    from palimpsest_stage.decode import decode, nucleus  # noqa: PLC0415

    model, _ = smollm2()
    choose = nucleus(1.0, TOP_P, torch.Generator().manual_seed(3))

    def work() -> int:
        found = decode(model, [prompt] * COUNT, LONGEST, ends, choose, ROWS)
        # The token that ended it was drawn too.
        return sum(min(len(ids) + 1, LONGEST) for _, ids in found)

    return work


def _theirs(model: Any, prompt: list[int], ends: set[int], rows: int) -> Callable[[], int]:
    stops = torch.tensor(sorted(ends))

    def work() -> int:
        drawn = 0
        for _ in range(COUNT // rows):
            out = generated(model, prompt, rows, LONGEST, eos_token_id=sorted(ends))
            ended = torch.isin(out, stops)
            first = torch.where(ended.any(1), ended.int().argmax(1) + 1, out.shape[1])
            drawn += int(first.sum())
        return drawn

    return work


def prepare(_: ExitStack) -> Pair:
    from palimpsest_stage.sample import stop_tokens  # noqa: PLC0415

    model, tokenizer = smollm2("float32")
    prompt = tokenizer(PROMPT)["input_ids"]
    ends = {tokenizer.eos_token_id, *stop_tokens(tokenizer, STOPS)}
    found = {rows: counted(_theirs(model, prompt, ends, rows))() for rows in BATCHES}
    best = max(found, key=lambda rows: found[rows])
    told = ", ".join(f"{rows}: {rate:.0f}" for rows, rate in found.items())
    print(f"  generate's tokens/s by batch size {told}; best {best}", flush=True)
    return Pair(counted(_ours(prompt, ends)), counted(_theirs(model, prompt, ends, best)))


BENCHMARK = Benchmark(
    "sampling",
    "tokens/s",
    "higher",
    f"{COUNT} instructions of at most {LONGEST} tokens that end at a mark, {ROWS} rows, nucleus "
    f"{TOP_P}, SmolLM2-135M, bfloat16",
    f"transformers.generate in float32 at its best batch size of {', '.join(map(str, BATCHES))}, "
    "the same",
    4.0,
    prepare,
)
