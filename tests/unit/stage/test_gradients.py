"""Per-example gradients: exact, and a record's own to the bit."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from palimpsest.api.generator import Lora
from palimpsest_stage.company import check_company
from palimpsest_stage.dp.sgd import clipped_sum
from palimpsest_stage.errors import ModelUnsuitable
from palimpsest_stage.gradients import check_adapters, micro_batches, per_example_gradients
from palimpsest_stage.lora import Adapters
from palimpsest_stage.models import DTYPES, check_positions, checkpoint_blocks
from torch import Tensor, nn
from torch.func import functional_call
from unit.stage.families import FAMILIES, LLAMA, family_model
from unit.stage.tiny import LAYOUT, examples, tiny_model


def adapted(dtype: torch.dtype, hidden: int = 32) -> tuple[Any, Adapters]:
    model = tiny_model(hidden=hidden).to(dtype)
    return model, with_adapters(model)


def with_adapters(model: Any) -> Adapters:
    torch.manual_seed(1)
    adapters = Adapters(model, Lora(rank=3, alpha=5))
    adapters.write(adapters.read() + 0.05 * torch.randn(adapters.size))
    return adapters


def reference(model: Any, adapters: Adapters, rows: list[list[int]], clip: float) -> Tensor:
    """A plain loop in float64: one example, no padding, W + scale B A, autograd, clip, sum.

    `model` is the same as the one with `adapters`, without them.
    """
    scale = adapters.lora.alpha / adapters.lora.rank
    model = model.double()
    weights = {name: p.detach() for name, p in model.named_parameters()}
    pairs = {
        name: (
            layer.a.detach().double().requires_grad_(),
            layer.b.detach().double().requires_grad_(),
        )
        for name, layer in adapters.layers.items()
    }
    leaves = [leaf for pair in pairs.values() for leaf in pair]
    total = torch.zeros(adapters.size, dtype=torch.float64)
    for row in rows:
        merged = {}
        for name, (a, b) in pairs.items():
            change = scale * b @ a
            transposed = not isinstance(model.get_submodule(name), nn.Linear)
            merged[f"{name}.weight"] = weights[f"{name}.weight"] + (
                change.T if transposed else change
            )
        ids = torch.tensor([[*LAYOUT.start, *row]])
        logits = functional_call(model, weights | merged, (ids,)).logits[0]
        predictions = logits[len(LAYOUT.start) - 1 : -1]
        loss = nn.functional.cross_entropy(predictions, torch.tensor(row))
        flat = torch.cat([g.flatten() for g in torch.autograd.grad(loss, leaves)])
        total += flat * min(1.0, clip / float(flat.norm()))
    return total


def summed(model: Any, adapters: Adapters, rows: list[list[int]], size: int, clip: float) -> Tensor:
    total = torch.zeros(adapters.size, dtype=torch.float64, device=model.device)
    for batch in micro_batches(rows, LAYOUT, size):
        total += clipped_sum(per_example_gradients(model, adapters, batch), clip)
    return total


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("clip", [0.05, 1e6], ids=["clipped", "whole"])
@pytest.mark.parametrize("size", [1, 3, 11])
def test_clipped_sum_equals_a_plain_autograd_loop(size: int, clip: float) -> None:
    rows = examples(11)
    model, adapters = adapted(torch.float32)
    expected = reference(tiny_model(), adapters, rows, clip)
    assert error(summed(model, adapters, rows, size, clip), expected) <= 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_it_does_for_decoders_of_every_maker(family: str) -> None:
    rows = examples(5)
    model = family_model(family)
    adapters = with_adapters(model)
    check_adapters(model, adapters, LAYOUT, 3)
    expected = reference(family_model(family), adapters, rows, 0.05)
    assert error(summed(model, adapters, rows, 3, 0.05), expected) <= 1e-5


def test_what_adapters_do_not_fit_into_is_refused_on_public_ground() -> None:
    # A state space model reads its linear layers' weights itself.
    model = family_model("mamba", hidden_size=32, num_hidden_layers=2)
    with pytest.raises(ModelUnsuitable, match="no decoder"):
        check_adapters(model, with_adapters(model), LAYOUT, 2)


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt"])
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_recomputed_blocks_give_the_same_bits(family: str, precision: str) -> None:
    def made() -> tuple[Any, Adapters]:
        one = tiny_model() if family == "llama" else family_model(family)
        return one.to(DTYPES[precision]), with_adapters(one)

    (model, adapters), (saving, others) = made(), made()
    checkpoint_blocks(saving)
    passes = []
    first = next(iter(others.layers.values()))
    first.register_forward_hook(lambda *_: passes.append(1))
    for batch in micro_batches(examples(6), LAYOUT, 4):
        passes.clear()
        expected = per_example_gradients(model, adapters, batch)
        assert torch.equal(per_example_gradients(saving, others, batch), expected)
        assert len(passes) == 2


def test_a_model_without_blocks_has_none_to_recompute() -> None:
    with pytest.raises(ModelUnsuitable, match="gradientCheckpointing"):
        checkpoint_blocks(nn.Linear(2, 2))


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_gradient_is_the_same_bits_whatever_the_company_and_position(precision: str) -> None:
    model, adapters = adapted(DTYPES[precision], hidden=64)
    subject = examples(1, seed=9)[0]

    def gradient(company: list[list[int]], position: int) -> Tensor:
        rows = [*company[:position], subject, *company[position:]]
        (batch,) = micro_batches(rows, LAYOUT, 8)
        return per_example_gradients(model, adapters, batch)[position].clone()

    alike = [[*row[: len(subject) - 1], 1] for row in examples(40, seed=3)]
    company = [row for row in alike if len(row) == len(subject)]
    assert len(company) >= 14
    alone = gradient([], 0)
    assert alone.norm() > 0
    for others, position in [(company[:7], 0), (company[:7], 7), (company[7:14], 3)]:
        assert torch.equal(gradient(others, position), alone)


def test_padded_length_follows_from_the_record_alone() -> None:
    short, long = [5] * 4, [5] * 30
    together = {len(b.tokens[0]): b.real for b in micro_batches([short, long], LAYOUT, 4)}
    apart = {
        len(batch.tokens[0]): batch.real
        for row in (short, long)
        for batch in micro_batches([row], LAYOUT, 4)
    }
    assert together == apart
    assert len(together) == 2
    assert all(b.tokens.shape[0] == 4 for b in micro_batches([short] * 5, LAYOUT, 4))


def test_no_batch_without_examples() -> None:
    assert list(micro_batches([], LAYOUT, 4)) == []


def test_adapter_without_gradient_is_found_on_the_public_dummy() -> None:
    model, adapters = adapted(torch.float32)
    before = adapters.read()
    check_adapters(model, adapters, LAYOUT, 4)
    assert torch.equal(adapters.read(), before)
    # An MLP whose output goes nowhere: its adapters exist and learn nothing.
    model.model.layers[1].mlp.forward = torch.zeros_like
    with pytest.raises(ModelUnsuitable, match="mlp"):
        check_adapters(model, adapters, LAYOUT, 4)


def remembering(factor: float) -> Any:
    """A Llama of 32 positions that stretches them when it is given a longer text."""
    rope = {"rope_type": "dynamic", "factor": factor, "rope_theta": 10000.0}
    return family_model("llama", **LLAMA | {"max_position_embeddings": 32}, rope_parameters=rope)


def test_what_a_model_remembers_of_other_lengths_is_found_on_the_public_dummy() -> None:
    model = remembering(4.0)
    wide = replace(LAYOUT, max_length=96)
    with pytest.raises(ModelUnsuitable, match="neighbours"):
        check_adapters(model, with_adapters(model), wide, 4)


def test_models_that_answer_by_company_are_refused_by_what_they_are() -> None:
    model = remembering(4.0)
    check_positions(model, 96, "training.maxLength")
    check_company(model, 32)
    with pytest.raises(ModelUnsuitable, match="dynamic positions: beyond 32 tokens"):
        check_company(model, 33)
    stretched = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0}
    check_company(family_model("llama", **LLAMA, rope_parameters=stretched), 1024)
    for family, experts in (("mixtral", "num_local_experts"), ("qwen3_moe", "num_experts")):
        mixture = family_model(family, **LLAMA | {"head_dim": 8, experts: 4})
        with pytest.raises(ModelUnsuitable, match="a mixture of experts"):
            check_company(mixture, 8)


@pytest.mark.parametrize("family", FAMILIES)
def test_dense_models_answer_alone(family: str) -> None:
    check_company(family_model(family), 256)


def test_coupled_examples_are_found_on_the_public_dummy() -> None:
    model, adapters = adapted(torch.float32)
    mlp = model.model.layers[0].mlp
    plain = mlp.forward
    mlp.forward = lambda x: plain(x) + x.mean(0, keepdim=True)
    with pytest.raises(ModelUnsuitable, match="neighbours"):
        check_adapters(model, adapters, LAYOUT, 4)


def test_what_a_batch_leaves_behind_is_no_part_of_the_next() -> None:
    model, adapters = adapted(torch.float32)
    (batch,) = micro_batches(examples(1), LAYOUT, 1)
    assert bool(per_example_gradients(model, adapters, batch).any())
    model.model.layers[1].mlp.forward = torch.zeros_like
    gradient = per_example_gradients(model, adapters, batch)[0]
    spans = [s for n, s in adapters.spans().items() if "layers.1.mlp" in n]
    assert len(spans) == 3
    assert not any(bool(gradient[span].any()) for pair in spans for span in pair)


def test_unknown_target_is_refused() -> None:
    with pytest.raises(ModelUnsuitable, match="targetModules"):
        Adapters(tiny_model(), Lora(target_modules=["q_proj", "nonsense"]))
