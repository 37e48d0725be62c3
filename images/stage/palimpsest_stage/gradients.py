"""Per-example gradients over Poisson batches, in fixed shapes that fit one record alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from palimpsest_stage.errors import ModelUnsuitable
from palimpsest_stage.lora import Adapters
from palimpsest_stage.text import Layout, bucket

_IGNORED = -100


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Padded token ids (examples, length); rows from `real` on are dummies."""

    tokens: Tensor
    targets: Tensor
    real: int

    def on(self, device: torch.device) -> "MicroBatch":
        """The same on a device."""
        return replace(self, tokens=self.tokens.to(device), targets=self.targets.to(device))


def micro_batches(
    examples: Sequence[Sequence[int]], shape: Layout, size: int
) -> Iterator[MicroBatch]:
    """Group examples by their own padded length into batches of exactly `size` rows."""
    by_length: dict[int, list[Sequence[int]]] = {}
    for example in examples:
        length = bucket(len(shape.start) + len(example), shape.max_length)
        by_length.setdefault(length, []).append(example)
    for length, group in sorted(by_length.items()):
        for first in range(0, len(group), size):
            yield _pad(group[first : first + size], shape, length, size)


def _pad(group: Sequence[Sequence[int]], shape: Layout, length: int, size: int) -> MicroBatch:
    start = len(shape.start)
    tokens = torch.full((size, length), shape.end)
    tokens[:, :start] = torch.tensor(shape.start)
    targets = torch.full((size, length - start), _IGNORED)
    for row, example in enumerate(group):
        ids = torch.tensor(example)
        tokens[row, start : start + len(example)] = ids
        targets[row, : len(example)] = ids
    return MicroBatch(tokens, targets, len(group))


def per_example_gradients(model: Any, adapters: Adapters, batch: MicroBatch) -> Tensor:
    """Gradients (real examples, parameters) of each example's mean loss over its tokens.

    Padding is on the right, so causal attention needs no mask and sees no dummy.
    """
    batch = batch.on(model.device)
    adapters.gradients.begin(batch.tokens)
    losses = example_losses(model, batch)
    # Each row's loss depends on that row alone, so the sum's backward pass keeps rows apart.
    torch.autograd.backward(losses[: batch.real].sum())
    return adapters.gradients.finish()[: batch.real]


def example_losses(model: Any, batch: MicroBatch) -> Tensor:
    """Mean negative log-likelihood of each row's targets (examples,); float32."""
    length, wanted = batch.tokens.shape[1], batch.targets.shape[1]
    # A token is predicted at the place before it. Indices, not a count: a slice is not contiguous,
    # and the head would then copy its weights once a row.
    places = torch.arange(length - wanted - 1, length - 1, device=batch.tokens.device)
    logits = model(batch.tokens, logits_to_keep=places, use_cache=False).logits
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(),
        batch.targets.flatten(),
        ignore_index=_IGNORED,
        reduction="none",
    ).view_as(batch.targets)
    counts = (batch.targets != _IGNORED).sum(1).clamp(min=1)
    return losses.sum(1) / counts


def check_adapters(model: Any, adapters: Adapters, shape: Layout, size: int) -> None:
    """On public dummies: every adapter gets a gradient, and only from its own example.

    Its gradient must be the same bits with others beside it, at another place, and after passes of
    other lengths, which a model might remember.

    Runs before private data is opened, at the greatest length, so that memory that is too small
    for the longest records shows here and not when one is met. Raises ModelUnsuitable.
    """
    initial = adapters.read()
    # With B at zero, A would get no gradient.
    adapters.write(initial + 0.01 * torch.randn_like(initial))
    try:
        _check(model, adapters, shape, size)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ModelUnsuitable(f"no decoder that adapters fit into: {error}") from error
    adapters.write(initial)


def _check(model: Any, adapters: Adapters, shape: Layout, size: int) -> None:
    rows = max(size, 2)
    room = shape.max_length - len(shape.start)

    def gradients(length: int, *, moved: bool = False) -> Tensor:
        """Of dummies with so many tokens after the start; moved: the first comes last."""
        dummies = [[(7 * row + 3 * i) % 97 for i in range(length)] for row in range(rows)]
        if moved:
            first, *others = dummies
            dummies = [*(other[::-1] for other in reversed(others)), first]
        return per_example_gradients(
            model, adapters, next(micro_batches(dummies, shape, rows))
        ).clone()

    longest = gradients(room)
    for name, spans in adapters.spans().items():
        if not all(bool(longest[:, span].any(dim=1).all()) for span in spans):
            raise ModelUnsuitable(f"no gradient reaches the adapter of {name}")
    half = max(1, room // 2)
    middle = gradients(half)
    gradients(1)
    alike = ((middle, gradients(half, moved=True)), (longest, gradients(room, moved=True)))
    if not all(torch.equal(before[0], after[-1]) for before, after in alike):
        raise ModelUnsuitable("an example's gradient depends on its neighbours in the batch")
