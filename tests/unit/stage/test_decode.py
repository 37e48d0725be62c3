"""The decode loop and its sampler against plain references."""

import math
from collections.abc import Iterator

import pytest
import torch
from palimpsest_stage.decode import decode, greedy, nucleus
from torch import Tensor
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper
from unit.stage.families import family_model
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


@pytest.mark.parametrize(("top_k", "top_p"), [(64, 0.8), (64, 0.3), (9, 0.9)])
def test_the_reference_is_transformers_own(top_k: int, top_p: float) -> None:
    row = 2.0 * torch.randn(1, 64, generator=torch.Generator().manual_seed(8))
    cut = TopKLogitsWarper(top_k)(None, TemperatureLogitsWarper(0.9)(None, row))
    theirs = torch.softmax(TopPLogitsWarper(top_p)(None, cut).double(), 1)[0]
    allowed = torch.full_like(row[0], -torch.inf)
    places = row[0].topk(top_k).indices
    allowed[places] = row[0, places]
    assert torch.allclose(reference(allowed, 0.9, top_p), theirs, atol=1e-6)


@pytest.mark.parametrize("spread", [4.0, 0.05], ids=["narrow", "wide"])
def test_nucleus_sampling_has_the_distribution_of_a_full_sort(
    spread: float,
) -> None:
    generator = torch.Generator().manual_seed(3)
    row = spread * torch.randn(64, generator=generator)
    expected = reference(row, 0.9, 0.8)
    n = 60_000
    drawn = nucleus(0.9, 0.8, generator)(row.expand(n, -1))
    seen = torch.bincount(drawn, minlength=64).double() / n
    error = (expected * (1 - expected) / n).sqrt()
    assert ((seen - expected).abs() <= ERRORS * error + 1e-12).all()


def test_of_tokens_that_are_as_likely_the_first_are_in_the_nucleus() -> None:
    # Ten alike: half of the mass is the first five of them.
    row = torch.zeros(1, 10).expand(20_000, -1)
    drawn = nucleus(1.0, 0.45, torch.Generator().manual_seed(2))(row)
    assert sorted(set(drawn.tolist())) == [0, 1, 2, 3, 4]


def test_a_nucleus_of_one_is_the_likeliest_token() -> None:
    row = torch.tensor([0.1, 3.0, -1.0, 2.9]).expand(1000, -1)
    drawn = nucleus(1.0, 1e-6, torch.Generator().manual_seed(2))(row)
    assert drawn.tolist() == [1] * 1000


@pytest.mark.parametrize("top_k", [5, 40, 64, 1000])
def test_top_k_is_taken_before_the_nucleus(top_k: int) -> None:
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
    # A flat row has 3,892 tokens in its nucleus.
    distinct = len(set(drawn[:, 1].tolist()))
    expected = 3892 * (1 - math.exp(-2000 / 3892))
    assert abs(distinct - expected) < 150


def ordered(found: Iterator[tuple[int, list[int]]]) -> list[list[int]]:
    """What follows each prompt, in the prompts' order."""
    by_number = dict(found)
    return [by_number[number] for number in range(len(by_number))]


@pytest.mark.parametrize("rows", [1, 2, 3, 9])
@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "gemma2"])
def test_greedy_decoding_is_generates_whatever_the_company(rows: int, family: str) -> None:
    model = tiny_model() if family == "llama" else family_model(family)
    prompts = [[0, 40, 50], [0, 9], [0, 8, 7, 6, 5, 4, 3], [0, 100], [0, 40, 51], [0, 9], [0, 2, 3]]
    ours = ordered(decode(model, prompts, 24, {1}, greedy, rows))
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
        # Of three rows the one that ended is dropped at once: a third is more than a quarter.
        return torch.tensor(next(tokens)[-len(logits) :])

    found = decode(tiny_model(), [[0, 5]] * 3, 4, {1, 2}, choose, 3)
    assert ordered(found) == [[7], [8, 8], [9] * 4]


def test_every_prompt_is_answered_once_and_no_more_rows_are_there_than_asked_for() -> None:
    randomness = torch.Generator().manual_seed(1)
    seen: list[int] = []

    def choose(logits: Tensor) -> Tensor:
        seen.append(len(logits))
        drawn = torch.randint(0, 12, (len(logits),), generator=randomness)
        return torch.where(drawn < 3, 1, drawn + 10)

    found = list(decode(tiny_model(), [[0, 5, 6]] * 100, 20, {1}, choose, 16))
    assert sorted(number for number, _ in found) == list(range(100))
    assert all(len(ids) <= 20 and 1 not in ids for _, ids in found)
    assert max(seen) == 16
    # What ended made room for what waited: rows were full until the last had begun.
    assert all(rows == 16 for rows in seen[: len(seen) // 2])
    assert list(decode(tiny_model(), [], 20, {1}, choose, 16)) == []


def test_rows_end_apart_from_one_another() -> None:
    model, steps = tiny_model(), iter(range(100))

    def choose(logits: Tensor) -> Tensor:
        # As many rows end at each step as there are left beyond the first.
        step = next(steps)
        tokens = torch.full((len(logits),), 10 + step)
        tokens[-1] = 1
        return tokens

    out = ordered(decode(model, [[0, 5]] * 3, 6, {1}, choose, 3))
    assert [len(ids) for ids in out] == [2, 1, 0]
