"""Several examples in one row, none of which sees another."""

from typing import Any

import torch
from torch import Tensor

from palimpsest_stage.errors import ModelUnsuitable

IGNORED = -100
# How far an example's logits may move, against the largest, when it is packed: rounding alone.
_ROUNDING = 0.05


class PackedRows:
    """Collates rows that TRL packed, each as it is: not all of them into one long row.

    Without a flash kernel, which the image has not, attention over one long row would cost the
    square of the whole batch's length. Examples begin where position 0 stands, and without an
    attention mask transformers' masks keep them apart by that.
    """

    def __init__(self, pad: int) -> None:
        self._pad = pad

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        longest = max(len(row["input_ids"]) for row in rows)
        shape = (len(rows), longest)
        tokens = torch.full(shape, self._pad)
        labels = torch.full(shape, IGNORED)
        positions = torch.zeros(shape, dtype=torch.long)
        for index, row in enumerate(rows):
            length = len(row["input_ids"])
            tokens[index, :length] = torch.tensor(row["input_ids"])
            labels[index, :length] = torch.tensor(row["labels"])
            # Padding is an example of its own, which nobody learns from.
            parts = [*row["seq_lengths"], longest - length]
            positions[index] = torch.cat([torch.arange(part) for part in parts])
        # The token before an example's first is another example's last.
        labels[positions == 0] = IGNORED
        return {"input_ids": tokens, "labels": labels, "position_ids": positions}


@torch.no_grad()
def check_apart(model: Any) -> None:
    """Raises ModelUnsuitable unless the second of two packed examples is blind to the first."""
    first, second = 6, 5
    size = model.config.get_text_config().vocab_size
    tokens = torch.arange(first + second, device=model.device)[None] % size
    changed = tokens.clone()
    changed[0, :first] = (changed[0, :first] + size // 2) % size
    positions = torch.cat([torch.arange(first), torch.arange(second)])[None].to(model.device)

    def logits(ids: Tensor, places: Tensor) -> Tensor:
        out = model(input_ids=ids, position_ids=places, use_cache=False)
        found: Tensor = out.logits[0, -second:].float()
        return found

    try:
        packed, other = logits(tokens, positions), logits(changed, positions)
        alone = logits(tokens[:, first:], positions[:, first:])
    except TypeError as error:
        raise ModelUnsuitable(f"{_REMEDY}: it takes no position ids") from error
    moved = (packed - alone).abs().max()
    if not torch.equal(packed, other) or not moved <= _ROUNDING * alone.abs().max():
        raise ModelUnsuitable(f"{_REMEDY}: packed examples would see one another")


_REMEDY = "sft.packing: not with this model, set it to false"
