"""Makes model folders (safetensors, tokenizer) out of what ships in Python packages.

Run as a program: python -m cluster.convert smollm2|tiny SOURCE TARGET
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

TINY = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
TINY_TOKENS = 512


def smollm2(source: Path, target: Path) -> None:
    """SmolLM2-135M-Instruct from its GGUF file, dequantised to bfloat16."""
    import torch  # noqa: PLC0415 - only the process that converts pays for it
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    file = {"gguf_file": source.name}
    quantised = AutoModelForCausalLM.from_pretrained(source.parent, **file, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(source.parent, **file)
    _save(_fresh(quantised.config.to_dict(), quantised.state_dict()), tokenizer, target)


def _fresh(config: dict[str, Any], weights: dict[str, Any]) -> Any:
    """A Llama without the loader's traces of quantisation."""
    import torch  # noqa: PLC0415
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415

    traces = {"quantization_config", "_name_or_path", "transformers_version", "dtype"}
    kept = {name: value for name, value in config.items() if name not in traces}
    model = LlamaForCausalLM(LlamaConfig(**kept))
    model.load_state_dict(weights)
    return model.to(torch.bfloat16)


def tiny(source: Path, target: Path) -> None:
    """A Llama of random weights that a test trains in seconds; `source` is SmolLM2's folder.

    Its tokenizer is byte-level with the bytes and the model's special tokens alone.
    """
    import torch  # noqa: PLC0415
    from transformers import (  # noqa: PLC0415
        AutoTokenizer,
        LlamaConfig,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
    )

    full = AutoTokenizer.from_pretrained(source)
    trained = full.train_new_from_iterator(
        [path.read_text() for path in source.glob("*.json") if path.stat().st_size < 1 << 16],
        vocab_size=TINY_TOKENS,
    )
    assert isinstance(trained, PreTrainedTokenizerFast)
    torch.manual_seed(0)
    config = LlamaConfig(
        **TINY,
        vocab_size=len(trained),
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=trained.bos_token_id,
        eos_token_id=trained.eos_token_id,
        pad_token_id=trained.pad_token_id,
    )
    _save(LlamaForCausalLM(config).to(torch.bfloat16), trained, target)


def _save(model: Any, tokenizer: Any, target: Path) -> None:
    model.save_pretrained(target, safe_serialization=True)
    tokenizer.save_pretrained(target)
    for path in target.iterdir():
        # Weights are written for their owner alone, and pods that mount the folder are others.
        path.chmod(0o644)


if __name__ == "__main__":
    what, read, written = sys.argv[1:]
    {"smollm2": smollm2, "tiny": tiny}[what](Path(read), Path(written))
