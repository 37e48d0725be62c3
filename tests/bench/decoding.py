"""The decode loop and transformers.generate, side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.harness import Pair
from bench.rates import rate

TOP_P = 0.95


def generated(model: Any, prompt: list[int], rows: int, new_tokens: int, **settings: Any) -> Tensor:
    """What transformers.generate draws after the prompt (rows, at most `new_tokens`)."""
    ids = torch.tensor([prompt] * rows, device=model.device)
    out: Tensor = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=TOP_P,
        max_new_tokens=new_tokens,
        pad_token_id=0,
        **settings,
    )
    return out[:, len(prompt) :]


def at_full_length(
    model: Any,
    prompt: list[int],
    rows: int,
    new_tokens: int,
    settle: Callable[[], object] = int,
) -> Pair:
    """Tokens a second of both where no token ends a row: they make the same number."""
    from palimpsest_stage.decode import decode, nucleus  # noqa: PLC0415

    choose = nucleus(1.0, TOP_P, torch.Generator().manual_seed(3))
    return Pair(
        rate(
            rows * new_tokens,
            lambda: list(decode(model, [prompt] * rows, new_tokens, (), choose, rows)),
            settle,
        ),
        rate(
            rows * new_tokens,
            lambda: generated(model, prompt, rows, new_tokens, min_new_tokens=new_tokens),
            settle,
        ),
    )
