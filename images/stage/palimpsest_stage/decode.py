"""A decode loop of continuous batching (Yu et al. 2022): what ends makes room for what waits.

Any rule for the next token; one cache, whose rows are renewed when a quarter of them has ended.
"""

import copy
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

# Renewing rows copies the cache, so it waits until enough of them have ended.
_RENEWED_SHARE = 4

_BLOCK = 128

Choose = Callable[[Tensor], Tensor]


def greedy(logits: Tensor) -> Tensor:
    """The likeliest token of each row (rows, vocabulary)."""
    return logits.argmax(1)


def nucleus(
    temperature: float, top_p: float, generator: torch.Generator, top_k: int | None = None
) -> Choose:
    """Sampling from the smallest set of likeliest tokens whose mass reaches `top_p`.

    Holtzman et al. (2020); with `top_k`, of the mass of the likeliest so many. Nothing is sorted: a
    token drawn from all is kept if those that rank before it have less mass than `top_p`, and drawn
    again else, which few are. Of tokens that are as likely the first ranks first.
    """

    def choose(logits: Tensor) -> Tensor:
        scaled = logits.float() / temperature
        allowed = None
        if top_k is not None and top_k < scaled.shape[1]:
            scaled, allowed = scaled.topk(top_k, dim=1)
        weights = scaled.softmax(1)
        chosen = _draw(weights, generator)
        rejected = _beyond(scaled, weights, chosen, top_p)
        while len(rejected):
            some, theirs = scaled[rejected], weights[rejected]
            again = _draw(theirs, generator)
            chosen[rejected] = again
            rejected = rejected[_beyond(some, theirs, again, top_p)]
        return chosen if allowed is None else allowed.gather(1, chosen[:, None])[:, 0]

    return choose


def _draw(weights: Tensor, generator: torch.Generator) -> Tensor:
    """A token of each row by its weights (rows, vocabulary): first a block of them, then one there.

    Sums over blocks are float64: none is drawn too often by rounding.
    """
    rows, vocabulary = weights.shape
    whole = vocabulary // _BLOCK
    sums = weights[:, : whole * _BLOCK].view(rows, whole, _BLOCK).sum(2)
    rest = weights[:, whole * _BLOCK :].sum(1, keepdim=True)
    up_to = torch.cat([sums, rest], 1).double().cumsum(1)
    uniform = torch.rand(rows, 1, generator=generator, dtype=torch.float64)
    # The seed's numbers are the same wherever the model is.
    target = uniform.to(weights.device) * up_to[:, -1:]
    block = torch.searchsorted(up_to, target, right=True).clamp_(max=whole)
    left = target - pad(up_to, (1, 0)).gather(1, block)
    places = block * _BLOCK + torch.arange(_BLOCK, device=weights.device)
    within = weights.gather(1, places.clamp(max=vocabulary - 1)).double()
    within = within.masked_fill(places >= vocabulary, 0.0).cumsum(1)
    # Where rounding leaves more than the block has, its last token with any weight.
    left = torch.minimum(left, within[:, -1:] * (1 - 2**-40))
    place = torch.searchsorted(within, left, right=True).clamp_(max=_BLOCK - 1)
    return places.gather(1, place).clamp_(max=vocabulary - 1)[:, 0]


def _beyond(scaled: Tensor, weights: Tensor, tokens: Tensor, top_p: float) -> Tensor:
    """Numbers of the rows whose tokens lie outside of their nuclei."""
    places = tokens[:, None]
    level = scaled.gather(1, places)
    reached = torch.where(scaled >= level, weights, 0.0).sum(1)
    # Else all that are as likely lie within, and nobody need be told apart.
    rows = (reached > top_p).nonzero()[:, 0]
    scaled, weights, places, level = scaled[rows], weights[rows], places[rows], level[rows]
    before = torch.where(scaled > level, weights, 0.0).sum(1)
    first = torch.arange(scaled.shape[1], device=scaled.device) < places
    alike = ((scaled == level) & first).sum(1)
    return rows[before + alike * weights.gather(1, places)[:, 0] >= top_p]


@dataclass
class _Rows:
    """What has been read of some sequences: a cache and its mask (rows, length), and what follows.

    A row's own columns are its last ones; before them lies what others needed.
    """

    cache: Any
    mask: Tensor
    logits: Tensor

    def select(self, keep: list[int]) -> None:
        """Keep these rows, and the columns that one of them uses."""
        rows = torch.tensor(keep, device=self.mask.device)
        self.mask, self.logits = self.mask[rows], self.logits[rows]
        unused = int(self.mask.argmax(1).min())
        self.mask = self.mask[:, unused:]
        for layer in self.cache.layers:
            layer.keys = layer.keys[rows, :, unused:]
            layer.values = layer.values[rows, :, unused:]

    def join(self, others: "_Rows") -> None:
        """Add the others' rows below, both filled up on the left to the longer one's length."""
        length = max(self.mask.shape[1], others.mask.shape[1])
        pair = (self, others)
        self.logits = torch.cat([each.logits for each in pair])
        for mine, theirs in zip(self.cache.layers, others.cache.layers, strict=True):
            mine.keys = torch.cat([_filled(each.keys, length) for each in (mine, theirs)])
            mine.values = torch.cat([_filled(each.values, length) for each in (mine, theirs)])
        self.mask = torch.cat([pad(each.mask, (length - each.mask.shape[1], 0)) for each in pair])

    def repeated(self, count: int) -> "_Rows":
        """Copies of the one row."""
        cache = copy.copy(self.cache)
        cache.layers = [copy.copy(layer) for layer in self.cache.layers]
        for layer in cache.layers:
            layer.keys = layer.keys.repeat_interleave(count, 0)
            layer.values = layer.values.repeat_interleave(count, 0)
        return _Rows(cache, self.mask.repeat(count, 1), self.logits.repeat(count, 1))


@torch.inference_mode()
def decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    ends: Collection[int],
    choose: Choose,
    rows: int,
) -> Iterator[tuple[int, list[int]]]:
    """(a prompt's number, up to `new_tokens` tokens after it) of every prompt, as they end.

    `rows` at once; the one of `ends` that ended a sequence is no part of it. Who wants n sequences
    must ask for n and wait for all: among more, the short ones end first.
    """
    alike = all(prompt == prompts[0] for prompt in prompts)
    first = _read(model, prompts[:1]) if alike and prompts else None
    state: _Rows | None = None
    # The prompts in the batch by row, what follows them, and which have not ended.
    numbers: list[int] = []
    found: list[list[int]] = []
    alive: list[bool] = []
    started = 0
    while True:
        left = min(len(prompts) - started, rows - sum(alive))
        ended = len(alive) - sum(alive)
        if not any(alive) or ended * _RENEWED_SHARE >= len(alive):
            keep = [row for row, lives in enumerate(alive) if lives]
            numbers, found = [numbers[row] for row in keep], [found[row] for row in keep]
            if state is not None and keep:
                state.select(keep)
            if left:
                some = prompts[started : started + left]
                fresh = first.repeated(left) if first else _read(model, some)
                if state is not None and keep:
                    state.join(fresh)
                else:
                    state = fresh
                numbers += range(started, started + left)
                found += [[] for _ in some]
                started += left
            alive = [True] * len(numbers)
        if state is None or not numbers:
            return
        tokens = choose(state.logits)
        for row, token in enumerate(tokens.tolist()):
            if not alive[row]:
                continue
            ids = found[row]
            if token not in ends:
                ids.append(token)
            if token in ends or len(ids) == new_tokens:
                alive[row] = False
                yield numbers[row], ids
        if any(alive):
            _advance(model, state, tokens)


def _filled(states: Tensor, length: int) -> Tensor:
    """Keys or values (rows, heads, length, size) with zeros on the left."""
    return pad(states, (0, 0, length - states.shape[2], 0))


def _read(model: Any, prompts: Sequence[Sequence[int]]) -> _Rows:
    from transformers import DynamicCache  # noqa: PLC0415 - 4 s

    longest = max(map(len, prompts))
    tokens = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros(len(prompts), longest, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        tokens[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    mask = mask.to(model.device)
    # Not of the model's configuration: every layer keeps all columns, and the mask alone says which
    # a sliding window sees.
    cache = DynamicCache()
    return _Rows(cache, mask, _forward(model, tokens.to(model.device), cache, mask))


def _advance(model: Any, state: _Rows, tokens: Tensor) -> None:
    state.mask = pad(state.mask, (0, 1), value=1)
    state.logits = _forward(model, tokens[:, None], state.cache, state.mask)


def _forward(model: Any, tokens: Tensor, cache: Any, mask: Tensor) -> Tensor:
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
