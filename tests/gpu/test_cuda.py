"""On a CUDA device: the same gradients, noise, steps, tokens and votes as on a processor."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from embeddings import embed_all
from palimpsest.api.generator import Lora
from palimpsest_stage import train
from palimpsest_stage.decode import decode, greedy, nucleus
from palimpsest_stage.distributed.group import ALONE, Group
from palimpsest_stage.distributed.process_group import ProcessGroup
from palimpsest_stage.distributed.world import World
from palimpsest_stage.dp.noise import SecureGenerator
from palimpsest_stage.embed import ROWS, Embedder
from palimpsest_stage.gradients import check_adapters, micro_batches, per_example_gradients
from palimpsest_stage.histogram import count_votes
from palimpsest_stage.lora import Adapters
from palimpsest_stage.models import DTYPES, suit_length
from palimpsest_stage.text import Layout
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM
from unit.stage.test_decode import ordered
from unit.stage.test_decode import reference as reference_probabilities
from unit.stage.test_embed import around, sentences
from unit.stage.test_gradients import error, reference, summed, with_adapters
from unit.stage.tiny import LAYOUT, examples, tiny_encoder, tiny_model
from unit.stage.training import parameters

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CUDA, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.mark.parametrize("clip", [0.05, 1e6], ids=["clipped", "whole"])
@pytest.mark.parametrize("size", [1, 3, 11])
def test_clipped_sum_equals_a_plain_autograd_loop_in_float64(size: int, clip: float) -> None:
    rows = examples(11)
    adapters = with_adapters(tiny_model())
    expected = reference(tiny_model(), adapters, rows, clip)
    model = tiny_model()
    adapters = with_adapters(model)
    model.to(CUDA)
    assert error(summed(model, adapters, rows, size, clip).cpu(), expected) <= 1e-5


def wide(precision: str, length: int) -> tuple[Any, Adapters, Layout]:
    """Two layers as wide as a 1B model's, whose products are big enough to be cut in tiles."""
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=2,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=1024,
    )
    model = LlamaForCausalLM(config).eval().to(CUDA, DTYPES[precision])
    suit_length(model, length)
    adapters = Adapters(model, Lora(rank=8))
    return model, adapters, Layout((1,), "", 2, length)


@pytest.mark.parametrize("length", [32, 256])
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_gradient_is_the_same_bits_whatever_the_company_and_position(
    precision: str, length: int
) -> None:
    model, adapters, layout = wide(precision, length)
    check_adapters(model, adapters, layout, 16)
    adapters.write(adapters.read() + 0.01)
    rows = torch.randint(3, 4096, (33, length - 1), generator=torch.Generator().manual_seed(4))
    subject, *others = rows.tolist()

    def gradient(company: list[list[int]], position: int) -> Tensor:
        batch = [*company[:position], subject, *company[position:]]
        (micro,) = micro_batches(batch, layout, 16)
        return per_example_gradients(model, adapters, micro)[position].clone()

    alone = gradient([], 0)
    assert alone.norm() > 0
    for company, position in [(others[:15], 0), (others[:15], 15), (others[15:30], 7)]:
        assert torch.equal(gradient(company, position), alone)
    assert torch.equal(gradient([], 0), alone)


class Fixed(SecureGenerator):
    """The same words for whoever asks first."""

    def words(self, count: int) -> Any:
        return np.random.default_rng(7).integers(0, 1 << 64, count, dtype=np.uint64)


def test_noise_is_the_processors_to_rounding_and_has_the_moments_of_a_normal() -> None:
    here, there = Fixed().normals(100_001), Fixed().normals(100_001, CUDA)
    assert there.device.type == "cuda"
    assert there.dtype == torch.float64
    assert torch.allclose(there.cpu(), here, rtol=1e-12, atol=1e-12)
    n = 4_000_001
    drawn = SecureGenerator().normals(n, CUDA)
    # 5.5 standard errors each: a false alarm once in 10^7 runs.
    assert abs(float(drawn.mean())) < 5.5 / math.sqrt(n)
    assert abs(float(drawn.square().mean()) - 1) < 5.5 * math.sqrt(2 / n)
    assert abs(float(drawn.pow(4).mean()) - 3) < 5.5 * math.sqrt(96 / n)


def trainer(device: torch.device, group: Group = ALONE) -> train.Trainer:
    """All examples in, the same noise whoever draws it."""
    model = tiny_model()
    torch.manual_seed(1)
    adapters = Adapters(model, Lora(rank=2, alpha=4))
    model.to(device)
    settings = parameters(expected_batch_size=200)
    return train.Trainer(model, adapters, LAYOUT, settings, Fixed(), group=group)


def released(one: train.Trainer, steps: int) -> list[Tensor]:
    state, seen = one.initial(), []
    for _ in range(steps):
        state, size = one.step(state, examples(10))
        assert size == 10
        seen.append(state.moments.first.cpu())
    return seen


def test_steps_are_the_processors() -> None:
    for there, here in zip(released(trainer(CUDA), 3), released(trainer(CPU), 3), strict=True):
        assert error(there, here) <= 1e-5


def test_a_rank_of_a_process_group_speaks_nccl(tmp_path: Path) -> None:
    group = ProcessGroup.join(World(processes=1), 0, tmp_path)
    try:
        # Both by where the tensor lies.
        for device in (CUDA, CPU):
            total = group.reduce(torch.full((3,), 0.5, dtype=torch.float64, device=device))
            assert total.device.type == device.type
            assert total.tolist() == [0.5] * 3
        assert group.broadcast_number(7) == 7
        group.agree(b"same")
        alone = released(trainer(CUDA), 2)
        for mine, theirs in zip(released(trainer(CUDA, group), 2), alone, strict=True):
            assert torch.equal(mine, theirs)
    finally:
        torch.distributed.destroy_process_group()


def test_greedy_decoding_is_the_processors() -> None:
    prompts = [[0, 40, 50], [0, 9], [0, 8, 7, 6, 5, 4, 3], [0, 100], [0, 40, 51]]
    here = ordered(decode(tiny_model(), prompts, 24, {1}, greedy, 3))
    assert ordered(decode(tiny_model().to(CUDA), prompts, 24, {1}, greedy, 3)) == here
    same = [[0, 40, 50]] * 3
    there = ordered(decode(tiny_model().to(CUDA), same, 8, {1}, greedy, 2))
    assert there == [here[0][:8]] * 3


def test_nucleus_sampling_has_the_distribution_of_a_full_sort() -> None:
    generator = torch.Generator().manual_seed(3)
    row = 2.0 * torch.randn(2048, generator=generator)
    expected = reference_probabilities(row, 0.9, 0.95)
    # Wider than what is sorted at first.
    assert int((expected > 0).sum()) > 512
    n, tokens = 200_000, torch.zeros(2048)
    choose = nucleus(0.9, 0.95, generator)
    for _ in range(20):
        drawn = choose(row.to(CUDA).expand(n // 20, -1))
        tokens += torch.bincount(drawn.cpu(), minlength=2048)
    seen = tokens.double() / n
    spread = (expected * (1 - expected) / n).sqrt()
    # 5.5 standard errors, and one count where next to none is expected.
    assert ((seen - expected).abs() <= 5.5 * spread + 1.5 / n).all()
    assert not bool(seen[expected == 0].any())


def test_an_embedding_is_the_same_bits_whatever_the_company(tmp_path: Path) -> None:
    embedder = Embedder(tiny_encoder(tmp_path / "encoder"))
    subject = "w1 w2 w3 w4"
    alone = embed_all(embedder, [subject])[0]
    for company, position in [(sentences(ROWS - 1, 4), ROWS - 1), (sentences(3 * ROWS, 4), 50)]:
        texts = [*company[:position], subject, *company[position:]]
        assert np.array_equal(embed_all(embedder, texts)[position], alone)
    partition = around(embed_all(embedder, sentences(5, 4)))
    assert sum(count_votes(embedder, partition, sentences(45, 4)).values()) == 45
