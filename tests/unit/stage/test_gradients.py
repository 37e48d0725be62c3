"""Per-example gradients: exact, and a record's own to the bit."""

from typing import Any

import pytest
import torch
from palimpsest.api.generator import Lora
from palimpsest_stage.dp.sgd import clipped_sum
from palimpsest_stage.errors import ModelUnsuitable
from palimpsest_stage.gradients import check_adapters, micro_batches, per_example_gradients
from palimpsest_stage.lora import Adapters
from palimpsest_stage.models import DTYPES
from torch import Tensor, nn
from torch.func import functional_call
from unit.stage.tiny import LAYOUT, examples, tiny_model


def adapted(dtype: torch.dtype, hidden: int = 32) -> tuple[Any, Adapters]:
    model = tiny_model(hidden=hidden).to(dtype)
    torch.manual_seed(1)
    adapters = Adapters(model, Lora(rank=3, alpha=5))
    adapters.write(adapters.read() + 0.05 * torch.randn(adapters.size))
    return model, adapters


def reference(rows: list[list[int]], clip: float) -> Tensor:
    """A plain loop in float64: one example, no padding, W + scale B A, autograd, clip, sum."""
    _, adapters = adapted(torch.float32)
    scale = adapters.lora.alpha / adapters.lora.rank
    model = tiny_model().double()
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
        merged = {
            f"{name}.weight": weights[f"{name}.weight"] + scale * b @ a
            for name, (a, b) in pairs.items()
        }
        ids = torch.tensor([[*LAYOUT.start, *row]])
        logits = functional_call(model, weights | merged, (ids,)).logits[0]
        predictions = logits[len(LAYOUT.start) - 1 : -1]
        loss = nn.functional.cross_entropy(predictions, torch.tensor(row))
        flat = torch.cat([g.flatten() for g in torch.autograd.grad(loss, leaves)])
        total += flat * min(1.0, clip / float(flat.norm()))
    return total


@pytest.mark.parametrize("clip", [0.05, 1e6], ids=["clipped", "whole"])
@pytest.mark.parametrize("size", [1, 3, 11])
def test_clipped_sum_equals_a_plain_autograd_loop(size: int, clip: float) -> None:
    rows = examples(11)
    model, adapters = adapted(torch.float32)
    total = torch.zeros(adapters.size, dtype=torch.float64)
    for batch in micro_batches(rows, LAYOUT, size):
        total += clipped_sum(per_example_gradients(model, adapters, batch), clip)
    expected = reference(rows, clip)
    assert float((total - expected).norm() / expected.norm()) <= 1e-5


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
