"""What the stages publish is readable by the libraries it is meant for; what they import."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from palimpsest.api.generator import Lora
from palimpsest_stage.errors import ModelUnsuitable
from palimpsest_stage.lora import Adapters, merge
from palimpsest_stage.sample import share
from unit.stage.tiny import tiny_model


def saved(folder: Path) -> Adapters:
    torch.manual_seed(2)
    adapters = Adapters(tiny_model(), Lora(rank=3, alpha=6))
    adapters.write(0.3 * torch.randn(adapters.size))
    adapters.save(folder)
    return adapters


def test_adapters_are_peft_s(tmp_path: Path) -> None:
    from peft import PeftModel  # noqa: PLC0415 - 8 s

    saved(tmp_path)
    tokens = torch.tensor([[0, 50, 60, 70]])
    ours = tiny_model()
    merge(ours, tmp_path)
    theirs = PeftModel.from_pretrained(tiny_model(), tmp_path)
    with torch.no_grad():
        assert torch.allclose(ours(tokens).logits, theirs(tokens).logits, atol=1e-4)
        assert not torch.allclose(ours(tokens).logits, tiny_model()(tokens).logits, atol=1e-2)


def test_adapters_of_another_model_are_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    with pytest.raises(ModelUnsuitable):
        merge(tiny_model(hidden=64), tmp_path)


def test_shards_share_the_count() -> None:
    assert [share(10, 4, shard) for shard in range(4)] == [3, 3, 2, 2]


@pytest.mark.parametrize(
    ("stage", "unwanted"),
    [
        ("main", {"torch", "numpy", "pyarrow"}),
        ("card", {"torch", "transformers", "datasets"}),
        ("select", {"torch", "transformers", "faiss"}),
        ("annotate", {"torch", "transformers", "aiohttp"}),
        ("answers.asking", {"torch", "transformers"}),
        ("train", {"peft", "trl", "datasets", "faiss", "opacus", "pyarrow"}),
        ("sample", {"peft", "trl", "datasets", "faiss"}),
        ("histogram", {"peft", "trl", "datasets", "faiss"}),
    ],
)
def test_a_stage_imports_only_what_it_uses(stage: str, unwanted: set[str]) -> None:
    program = f"import sys, palimpsest_stage.{stage}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not unwanted & set(done.stdout.split())
