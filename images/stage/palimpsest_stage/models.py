"""Loading models from a folder: safetensors only, no code from the folder, no hub."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from palimpsest_stage.errors import ModelUnsuitable

# Up to here plain attention is faster than the fused kernel's backward pass, on a processor.
_SHORT = 128
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def load_causal(folder: Path, precision: str, chat_template: str | None = None) -> tuple[Any, Any]:
    """(model, tokenizer) of a causal language model, frozen, in evaluation mode, on a GPU if any.

    `chat_template` replaces the tokenizer's own. Raises ModelUnsuitable if the folder holds no
    such model, or another's tokenizer.
    """
    # Not from the package's root: its lazy loader looks at every module on the way.
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 - 4 s

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **_LOCAL)
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=DTYPES[precision], use_safetensors=True, **_LOCAL
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelUnsuitable(f"not a causal language model in safetensors: {error}") from error
    if tokenizer.eos_token_id is None:
        raise ModelUnsuitable("the tokenizer has no end-of-sequence token")
    check_vocabulary(model, tokenizer)
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    return model.to(best_device()).eval().requires_grad_(False), tokenizer


def check_vocabulary(model: Any, tokenizer: Any) -> None:
    """Raises ModelUnsuitable if the tokenizer makes tokens that the model has no embedding of.

    The first text with such a token would end the stage, or on a GPU all that the process does; of
    a private text nobody may come to know.
    """
    try:
        rows = model.get_input_embeddings().weight.shape[0]
    # Of characters' hashes, or of something else than tokens.
    except (AttributeError, NotImplementedError):
        return
    last = max(tokenizer.get_vocab().values(), default=-1)
    if last >= rows:
        raise ModelUnsuitable(
            f"the tokenizer's last token has the number {last}, the model has {rows} embeddings: "
            "take the tokenizer that belongs to it, or enlarge the model's embeddings "
            "(resize_token_embeddings) and push it again"
        )


def suit_length(model: Any, max_length: int) -> None:
    """Prepare to train on sequences of at most `max_length` tokens."""
    if model.device.type == "cpu" and max_length <= _SHORT:
        model.set_attn_implementation("eager")


def check_positions(model: Any, tokens: int, field: str) -> None:
    """Raises ModelUnsuitable for sequences longer than the model's positions, if it says how many.

    A model of learnt positions ends in an error there, one of turned ones in nonsense. Stretched
    ones (YaRN and others) count as far as they are stretched.
    """
    config = model.config.get_text_config()
    stated = getattr(config, "max_position_embeddings", None)
    if stated is None:
        return
    turned = getattr(config, "rope_parameters", None) or {}
    kinds = [turned, *(kind for kind in turned.values() if isinstance(kind, dict))]
    most = int(stated * max(1.0, *(kind.get("factor") or 1.0 for kind in kinds)))
    if tokens > most:
        raise ModelUnsuitable(
            f"{field}: sequences of {tokens} tokens are longer than the {most} positions that the "
            "model has: lower it, shorten the longest instructions, or take another model"
        )


def checkpoint_blocks(model: Any) -> None:
    """Keep the inputs of the decoder's blocks only, and compute the rest again going backward.

    Not by the model's own switch: that one asks for training mode, and with it for dropout.
    Raises ModelUnsuitable if the model has no such blocks.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer  # noqa: PLC0415 - 4 s

    blocks = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
    if not blocks:
        raise ModelUnsuitable("gradientCheckpointing: the model has no blocks to recompute")
    for block in blocks:
        block.forward = partial(
            checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False
        )


def best_device() -> torch.device:
    """The first CUDA device if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_encoder(folder: Path) -> tuple[Any, Any]:
    """(model, tokenizer) of a sentence encoder in float32, on a GPU if any.

    Raises ModelUnsuitable.
    """
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415 - 4 s

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **_LOCAL)
        model = AutoModel.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, **_LOCAL
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelUnsuitable(f"not an encoder in safetensors: {error}") from error
    check_vocabulary(model, tokenizer)
    return model.to(best_device()).eval().requires_grad_(False), tokenizer


_LOCAL = {"local_files_only": True, "trust_remote_code": False}
