"""Decoders of many makers, tiny and of random weights."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

_SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
_GROUPED: dict[str, Any] = {**_SIZE, "num_key_value_heads": 2}
LLAMA = _GROUPED
_SHORT: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}

FAMILIES: dict[str, dict[str, Any]] = {
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "falcon": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "new_decoder_architecture": False,
    },
    "gemma2": {**_GROUPED, "head_dim": 8},
    # Its linear layers are Conv1D, which keep their weights transposed.
    "gpt2": _SHORT,
    "gpt_neox": _SIZE,
    "mistral": _GROUPED,
    # It flattens examples and tokens into one dimension on the way.
    "opt": {
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "ffn_dim": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
    },
    "phi": _SIZE,
    "phi3": _GROUPED,
    "qwen2": _GROUPED,
    "qwen3": {**_GROUPED, "head_dim": 8},
}


def family_model(family: str, **more: Any) -> Any:
    """A model of a family, in evaluation mode."""
    torch.manual_seed(5)
    size = FAMILIES.get(family, {}) | more
    config = AutoConfig.for_model(
        family, vocab_size=259, bos_token_id=0, eos_token_id=1, pad_token_id=1, **size
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.15)
    return model.eval()
