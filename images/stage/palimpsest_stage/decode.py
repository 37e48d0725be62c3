"""A bare decode loop: one cache, finished rows dropped, any rule for the next token."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor

LIKELIEST = 512
# Dropping rows copies the cache, so it waits until enough of them have ended.
_DROP_SHARE = 4

Choose = Callable[[Tensor], Tensor]


def greedy(logits: Tensor) -> Tensor:
    """The likeliest token of each row (rows, vocabulary)."""
    return logits.argmax(1)


def nucleus(
    temperature: float, top_p: float, generator: torch.Generator, top_k: int | None = None
) -> Choose:
    """Sampling from the smallest set of likeliest tokens whose mass reaches `top_p`.

    Holtzman et al. (2020); with `top_k`, of the mass of the likeliest so many. Only the 512
    likeliest are sorted; a row whose nucleus is wider is sorted whole: the distribution is exact.
    """

    def choose(logits: Tensor) -> Tensor:
        scaled = logits.float() / temperature
        # The seed's numbers are the same wherever the model is.
        uniform = torch.rand(len(scaled), 1, generator=generator).to(logits.device)
        if top_k is not None and top_k < scaled.shape[1]:
            scaled, allowed = scaled.topk(top_k, dim=1)
        else:
            allowed = None
        total = torch.logsumexp(scaled, 1, keepdim=True)
        top, tokens = scaled.topk(min(LIKELIEST, scaled.shape[1]), dim=1)
        mass = (top - total).exp().cumsum(1)
        chosen = _draw(mass, tokens, uniform, top_p)
        if tokens.shape[1] < scaled.shape[1]:
            wide = (mass[:, -1] < top_p).nonzero()[:, 0]
            if len(wide):
                top, tokens = scaled[wide].sort(dim=1, descending=True)
                mass = (top - total[wide]).exp().cumsum(1)
                chosen[wide] = _draw(mass, tokens, uniform[wide], top_p)
        return chosen if allowed is None else allowed.gather(1, chosen[:, None])[:, 0]

    return choose


def _draw(mass: Tensor, tokens: Tensor, uniform: Tensor, top_p: float) -> Tensor:
    """Inverse of the cumulative mass, cut after the token that carries it to `top_p`."""
    last = (mass < top_p).sum(1, keepdim=True).clamp(max=mass.shape[1] - 1)
    place = torch.searchsorted(mass, uniform * mass.gather(1, last), right=True)
    return tokens.gather(1, torch.minimum(place, last))[:, 0]


@torch.inference_mode()
def decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    ends: Collection[int],
    choose: Choose,
) -> list[list[int]]:
    """Up to `new_tokens` tokens after each prompt, without the one of `ends` that ended it."""
    out: list[list[int]] = [[] for _ in prompts]
    rows = torch.arange(len(prompts))
    logits, cache, mask = _prefill(model, prompts)
    for step in range(new_tokens):
        tokens = choose(logits)
        for row, token in zip(rows.tolist(), tokens.tolist(), strict=True):
            if not (out[row] and out[row][-1] in ends):
                out[row].append(token)
        if step == new_tokens - 1:
            break
        alive = torch.tensor([out[row][-1] not in ends for row in rows.tolist()])
        if not bool(alive.any()):
            break
        if int((~alive).sum()) * _DROP_SHARE >= len(alive):
            keep = alive.nonzero()[:, 0]
            rows, keep = rows[keep], keep.to(tokens.device)
            cache.batch_select_indices(keep)
            tokens = tokens[keep]
            mask = None if mask is None else mask[keep]
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        logits = _forward(model, tokens[:, None], cache, mask)
    return [ids[:-1] if ids and ids[-1] in ends else ids for ids in out]


def _prefill(model: Any, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Any, Tensor | None]:
    from transformers import DynamicCache  # noqa: PLC0415 - 4 s

    cache = DynamicCache(config=model.config)
    if all(prompt == prompts[0] for prompt in prompts):
        # One prompt for all is read once.
        first = torch.tensor([list(prompts[0])], device=model.device)
        logits = _forward(model, first, cache, None)
        cache.batch_repeat_interleave(len(prompts))
        return logits.expand(len(prompts), -1), cache, None
    longest = max(map(len, prompts))
    tokens = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros(len(prompts), longest, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        tokens[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    tokens, mask = tokens.to(model.device), mask.to(model.device)
    return _forward(model, tokens, cache, mask), cache, mask


def _forward(model: Any, tokens: Tensor, cache: Any, mask: Tensor | None) -> Tensor:
    positions = None
    if mask is not None:
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
    out = model(
        input_ids=tokens,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits: Tensor = out.logits[:, -1]
    return logits
