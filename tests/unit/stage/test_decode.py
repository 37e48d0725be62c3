"""The decode loop and its sampler against plain references."""

import math

import pytest
import torch
from palimpsest_stage import decode as module
from palimpsest_stage.decode import decode, greedy, nucleus
from torch import Tensor
from unit.stage.tiny import tiny_model

ERRORS = 5.5


def reference(logits: Tensor, temperature: float, top_p: float) -> Tensor:
    """Probabilities after a full sort of the row (vocabulary,)."""
    probabilities = torch.softmax(logits.double() / temperature, 0)
    ordered, places = probabilities.sort(descending=True)
    kept = ordered.cumsum(0) - ordered < top_p
    out = torch.zeros_like(probabilities)
    out[places[kept]] = ordered[kept]
    return out / out.sum()


@pytest.mark.parametrize("spread", [4.0, 0.05], ids=["narrow", "wide"])
def test_nucleus_sampling_has_the_distribution_of_a_full_sort(
    spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIKELIEST", 8)
    generator = torch.Generator().manual_seed(3)
    row = spread * torch.randn(64, generator=generator)
    expected = reference(row, 0.9, 0.8)
    assert bool((expected > 0).sum() <= 8) is (spread > 1)
    n = 60_000
    drawn = nucleus(0.9, 0.8, generator)(row.expand(n, -1))
    seen = torch.bincount(drawn, minlength=64).double() / n
    error = (expected * (1 - expected) / n).sqrt()
    assert ((seen - expected).abs() <= ERRORS * error + 1e-12).all()


@pytest.mark.parametrize("top_k", [5, 40, 64, 1000])
def test_top_k_is_taken_before_the_nucleus(top_k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIKELIEST", 8)
    generator = torch.Generator().manual_seed(11)
    row = torch.randn(64, generator=generator)
    allowed = torch.full_like(row, -torch.inf)
    places = row.topk(min(top_k, 64)).indices
    allowed[places] = row[places]
    expected = reference(allowed, 1.1, 0.9)
    n = 60_000
    drawn = nucleus(1.1, 0.9, generator, top_k)(row.expand(n, -1))
    seen = torch.bincount(drawn, minlength=64).double() / n
    error = (expected * (1 - expected) / n).sqrt()
    assert ((seen - expected).abs() <= ERRORS * error + 1e-12).all()


def test_wide_and_narrow_rows_are_drawn_in_one_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    narrow = torch.full((4096,), -30.0)
    narrow[17] = 30.0
    rows = torch.stack([narrow, torch.zeros(4096)])
    choose = nucleus(1.0, 0.95, generator)
    drawn = torch.stack([choose(rows) for _ in range(2000)])
    assert (drawn[:, 0] == 17).all()
    # A flat row has 3,892 tokens in its nucleus; 2,000 draws from 512 would repeat far more.
    distinct = len(set(drawn[:, 1].tolist()))
    expected = 3892 * (1 - math.exp(-2000 / 3892))
    assert abs(distinct - expected) < 150


def test_greedy_decoding_is_generates_whatever_the_padding_and_the_dropped_rows() -> None:
    model = tiny_model()
    prompts = [[0, 40, 50], [0, 9], [0, 8, 7, 6, 5, 4, 3], [0, 100], [0, 40, 51]]
    ours = decode(model, prompts, 24, {1}, greedy)
    for prompt, ids in zip(prompts, ours, strict=True):
        out = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=24,
            do_sample=False,
            eos_token_id=1,
            pad_token_id=1,
        )
        theirs = out[0, len(prompt) :].tolist()
        assert ids == (theirs[: theirs.index(1)] if 1 in theirs else theirs)


def test_any_of_the_ends_ends_a_row_and_is_no_part_of_it() -> None:
    tokens = iter([[7, 8, 9], [1, 8, 9], [8, 2, 9], [8, 8, 9]])

    def choose(logits: Tensor) -> Tensor:
        # A row that has ended may still be there, and what it is given is not looked at.
        return torch.tensor(next(tokens)[-len(logits) :])

    assert decode(tiny_model(), [[0, 5]] * 3, 4, {1, 2}, choose) == [[7], [8, 8], [9] * 4]


def test_rows_end_apart_from_one_another() -> None:
    model, steps = tiny_model(), iter(range(100))

    def choose(logits: Tensor) -> Tensor:
        # As many rows end at each step as there are left beyond the first.
        step = next(steps)
        tokens = torch.full((len(logits),), 10 + step)
        tokens[-1] = 1
        return tokens

    out = decode(model, [[0, 5]] * 3, 6, {1}, choose)
    assert [len(ids) for ids in out] == [2, 1, 0]
