"""Packed examples do not see one another, whatever the model; or the model is refused."""

from typing import Any

import pytest
import torch
from palimpsest_stage.alignment.packing import IGNORED, PackedRows, check_apart
from palimpsest_stage.errors import ModelUnsuitable
from unit.stage.families import FAMILIES, family_model
from unit.stage.tiny import tiny_model

EXAMPLES = [[5, 9, 17, 30], [40, 41, 42], [90, 91, 92, 93, 94]]
# They take no position ids, or make their mask without them.
REFUSED = {"bloom", "falcon", "opt"}


def rows(*packed: list[list[int]]) -> list[dict[str, Any]]:
    return [
        {
            "input_ids": [token for one in row for token in one],
            "labels": [token for one in row for token in one],
            "seq_lengths": [len(one) for one in row],
        }
        for row in packed
    ]


def test_a_row_keeps_its_examples_apart_and_learns_of_no_padding() -> None:
    batch = PackedRows(pad=1)(rows(EXAMPLES[:2], EXAMPLES[2:]))
    assert batch["input_ids"].tolist() == [[5, 9, 17, 30, 40, 41, 42], [90, 91, 92, 93, 94, 1, 1]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2], [0, 1, 2, 3, 4, 0, 1]]
    assert batch["labels"].tolist() == [
        [IGNORED, 9, 17, 30, IGNORED, 41, 42],
        [IGNORED, 91, 92, 93, 94, IGNORED, IGNORED],
    ]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_an_example_s_logits_are_the_same_in_any_company(attention: str) -> None:
    model = tiny_model()
    model.set_attn_implementation(attention)
    check_apart(model)
    batch = PackedRows(pad=1)(rows(EXAMPLES[:2], EXAMPLES[2:]))
    del batch["labels"]
    packed = model(**batch, use_cache=False).logits
    for row, start, example in ((0, 0, 0), (0, 4, 1), (1, 0, 2)):
        alone = model(input_ids=torch.tensor([EXAMPLES[example]])).logits[0]
        together = packed[row, start : start + len(EXAMPLES[example])]
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    # The test would notice: as one sequence they do see one another.
    joined = model(input_ids=batch["input_ids"][:1]).logits
    assert not torch.allclose(joined[0, 4:], packed[0, 4:], atol=1e-2)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_packs_or_is_refused(family: str) -> None:
    model = family_model(family)
    if family not in REFUSED:
        check_apart(model)
        return
    with pytest.raises(ModelUnsuitable, match=r"sft\.packing: .* set it to false"):
        check_apart(model)
