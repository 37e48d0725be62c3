"""LoRA adapters (Hu et al. 2021) whose backward pass keeps every example's gradient apart.

Adapters are float32 whatever the base model's precision, so clipping and noise are too.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from palimpsest.api.generator import Lora
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from palimpsest_stage.errors import ModelUnsuitable

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


class Gradients:
    """Per-example gradients of all adapters as one matrix (examples, parameters)."""

    def __init__(self, sizes: list[int]) -> None:
        """`sizes` of the parameters, in the order of the columns."""
        self._sizes = sizes
        self._matrix = torch.empty(0, sum(sizes))
        self._written: set[int] = set()
        self._tokens = 0

    def begin(self, tokens: Tensor) -> None:
        """Make room for the gradients of a batch of `tokens` (examples, length)."""
        examples, self._tokens = tokens.shape
        if self._matrix.shape[0] != examples or self._matrix.device != tokens.device:
            self._matrix = torch.empty(examples, sum(self._sizes), device=tokens.device)
        self._written.clear()

    def by_example(self, x: Tensor) -> Tensor:
        """A layer's input as (examples, tokens, features); some models flatten it on the way.

        Raises ModelUnsuitable if whose tokens these are cannot be told.
        """
        examples = self._matrix.shape[0]
        if x.dim() == 3 and x.shape[0] == examples:
            return x
        if x.dim() == 2 and x.shape[0] == examples * self._tokens:
            return x.view(examples, self._tokens, -1)
        raise ModelUnsuitable("linear layers must see (examples, tokens, features)")

    def finish(self) -> Tensor:
        """The matrix after the backward pass; it is overwritten by the next batch."""
        offset = 0
        for size in self._sizes:
            if offset not in self._written:
                # No gradient came by here: what the last batch left is none of this one's.
                self._matrix[:, offset : offset + size] = 0.0
            offset += size
        return self._matrix

    def add(self, offset: int, gradient: Tensor, scale: float = 1.0) -> None:
        """Add one parameter's (examples, ...) gradients, times `scale`, at its place."""
        flat = gradient.flatten(1)
        place = self._matrix[:, offset : offset + flat.shape[1]]
        if offset in self._written:
            place.add_(flat, alpha=scale)
        else:
            torch.mul(flat, scale, out=place)
            self._written.add(offset)


class _AdaptedLinear(torch.autograd.Function):
    """W x + scale B A x for x (examples, tokens, in); backward files A's and B's by example."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, a: Tensor, b: Tensor, layer: "LoraLinear", sink: Gradients
    ) -> Tensor:
        a, b = a.to(x.dtype), (b * layer.scale).to(x.dtype)
        hidden = x @ a.T
        ctx.save_for_backward(x, a, b, hidden)
        ctx.layer, ctx.sink = layer, sink
        return _add_product(layer.base(x), hidden, b.T)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, a, b, hidden = ctx.saved_tensors
        layer, sink = ctx.layer, ctx.sink
        inner = grad @ b
        sink.add(layer.offset, torch.bmm(inner.transpose(1, 2), x))
        sink.add(layer.offset + a.numel(), torch.bmm(grad.transpose(1, 2), hidden), layer.scale)
        back = None
        if ctx.needs_input_grad[0]:
            back = _add_product(grad @ layer.weight, inner, a)
        return back, None, None, None, None


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """total + left @ right, in place and in one pass over `total` (examples, tokens, features)."""
    total.view(-1, total.shape[-1]).addmm_(left.flatten(0, 1), right)
    return total


class LoraLinear(nn.Module):
    """A frozen linear layer (nn.Linear, or GPT-2's Conv1D) with a trained low-rank addition."""

    def __init__(self, base: nn.Module, lora: Lora) -> None:
        super().__init__()
        self.base = base
        self.scale = lora.alpha / lora.rank
        outputs, inputs = self.weight.shape
        self.a = nn.Parameter(torch.empty(lora.rank, inputs))
        self.b = nn.Parameter(torch.zeros(outputs, lora.rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))
        self.sink: Gradients | None = None
        self.offset = 0

    @property
    def weight(self) -> Tensor:
        """The frozen weight (outputs, inputs)."""
        return weight_of(self.base)

    def forward(self, x: Tensor) -> Tensor:
        if self.sink is None:
            raise ModelUnsuitable("adapters are trained where they were made only")
        out: Tensor = _AdaptedLinear.apply(self.sink.by_example(x), self.a, self.b, self, self.sink)
        return out.view(*x.shape[:-1], -1)


class Adapters:
    """All adapters put into a model, as one flat parameter vector."""

    def __init__(self, model: nn.Module, lora: Lora) -> None:
        """Replaces the target layers in `model`. Raises ModelUnsuitable if there are none."""
        model.requires_grad_(False)
        self.lora = lora
        self.layers: dict[str, LoraLinear] = {}
        for name, parent, attribute, base in list(target_layers(model, lora.target_modules)):
            layer = LoraLinear(base, lora).to(weight_of(base).device)
            setattr(parent, attribute, layer)
            self.layers[name] = layer
        self.gradients = Gradients([p.numel() for p in self._parameters()])
        offset = 0
        for layer in self.layers.values():
            layer.sink, layer.offset = self.gradients, offset
            offset += layer.a.numel() + layer.b.numel()

    def _parameters(self) -> list[nn.Parameter]:
        return [p for layer in self.layers.values() for p in (layer.a, layer.b)]

    @property
    def size(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self._parameters())

    def spans(self) -> dict[str, tuple[slice, slice]]:
        """Where each layer's A and B lie in the flat vector."""
        return {
            name: (
                slice(layer.offset, layer.offset + layer.a.numel()),
                slice(
                    layer.offset + layer.a.numel(),
                    layer.offset + layer.a.numel() + layer.b.numel(),
                ),
            )
            for name, layer in self.layers.items()
        }

    @torch.no_grad()
    def read(self) -> Tensor:
        """A copy of the flat parameter vector, float32, where the model is."""
        return torch.cat([p.flatten() for p in self._parameters()])

    @torch.no_grad()
    def write(self, flat: Tensor) -> None:
        """Set all parameters from a flat vector."""
        for parameter, values in zip(
            self._parameters(),
            torch.split(flat, [p.numel() for p in self._parameters()]),
            strict=True,
        ):
            parameter.copy_(values.view_as(parameter))

    def save(self, folder: Path) -> None:
        """Write the adapters in PEFT's layout."""
        tensors = {}
        for name, layer in self.layers.items():
            tensors[f"base_model.model.{name}.lora_A.weight"] = layer.a.detach().cpu()
            tensors[f"base_model.model.{name}.lora_B.weight"] = layer.b.detach().cpu()
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        config = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "inference_mode": True,
            "r": self.lora.rank,
            "lora_alpha": self.lora.alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": any(_transposed(layer.base) for layer in self.layers.values()),
            "target_modules": sorted({name.rsplit(".", 1)[-1] for name in self.layers}),
        }
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def weight_of(layer: nn.Module) -> Tensor:
    """A linear layer's weight as (outputs, inputs); a view of it."""
    weight: Tensor = layer.get_parameter("weight")
    return weight.T if _transposed(layer) else weight


def _is_linear(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or _transposed(layer)


def _transposed(layer: nn.Module) -> bool:
    """Whether a linear layer keeps its weight as (inputs, outputs)."""
    return type(layer).__name__ == "Conv1D"


def target_layers(
    model: nn.Module, names: list[str]
) -> Iterator[tuple[str, nn.Module, str, nn.Module]]:
    """(path, parent, attribute, layer) of linear layers named so; by default all but the head.

    Raises ModelUnsuitable if a name is found nowhere.
    """
    head = model.get_output_embeddings()  # type: ignore[operator]
    found = set()
    for path, parent in model.named_modules():
        for attribute, child in parent.named_children():
            wanted = attribute in names if names else child is not head
            if _is_linear(child) and wanted:
                found.add(attribute)
                yield f"{path}.{attribute}" if path else attribute, parent, attribute, child
    if not found or set(names) - found:
        raise ModelUnsuitable("the model has no linear layer of a name in lora.targetModules")


@torch.no_grad()
def merge(model: nn.Module, folder: Path) -> None:
    """Add the adapters in `folder` to the model's weights, in float32 before rounding.

    Raises ModelUnsuitable if they do not fit.
    """
    config = json.loads((folder / CONFIG).read_text())
    scale = config["lora_alpha"] / config["r"]
    tensors = load_file(folder / WEIGHTS)
    modules = dict(model.named_modules())
    for key in [k for k in tensors if k.endswith(".lora_A.weight")]:
        name = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        layer = modules.get(name)
        a, b = tensors[key], tensors[key.replace("lora_A", "lora_B")]
        if (
            layer is None
            or not _is_linear(layer)
            or weight_of(layer).shape != (b.shape[0], a.shape[1])
        ):
            raise ModelUnsuitable("the generator's adapters do not fit this base model")
        weight = weight_of(layer)
        weight.copy_(weight.float() + scale * (b @ a).to(weight.device))
