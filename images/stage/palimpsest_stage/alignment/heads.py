"""A model that is to become a reward model: with a head of one output, a new one if it has none."""

from pathlib import Path
from typing import Any

import torch

from palimpsest_stage.alignment.rewards import CLASSIFIER, architecture, check_head
from palimpsest_stage.chat import check_scoring
from palimpsest_stage.errors import ModelUnsuitable
from palimpsest_stage.models import best_device, check_vocabulary

FIELD = "spec.reward.trained.baseModel (left out: spec.baseModel)"
_REMEDY = f"take a causal language model whose kind has a ...{CLASSIFIER} in transformers"
# As transformers calls a classifier's head.
_HEADS = ("score.", "classifier.")


def load_headed(folder: Path, chat_template: str | None, seed: int) -> tuple[Any, Any]:
    """(model, tokenizer) in float32, on a GPU if any; a new head is drawn from the seed.

    Raises ModelUnsuitable.
    """
    # Not from the package's root: its lazy loader looks at every module on the way.
    from transformers import (  # noqa: PLC0415 - 4 s
        AutoModelForSequenceClassification,
        AutoTokenizer,
    )

    made, _ = architecture(folder, FIELD)
    ready = made.endswith(CLASSIFIER)
    if ready:
        check_head(folder, FIELD)
    local = {"local_files_only": True, "trust_remote_code": False}
    torch.manual_seed(seed)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **local)
        model, loaded = AutoModelForSequenceClassification.from_pretrained(
            folder,
            num_labels=1,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            **local,
        )
    except (OSError, ValueError, KeyError) as error:
        # What transformers can load instead is said at length, below the first line.
        said = str(error).partition("\n")[0].rstrip(".") + ":"
        raise ModelUnsuitable(f"{FIELD}: it makes no reward model: {said} {_REMEDY}") from error
    lacking = [key for key in sorted(loaded["missing_keys"]) if ready or not _of_the_head(key)]
    if lacking:
        raise ModelUnsuitable(f"{FIELD}: its files lack {', '.join(lacking)}: {_REMEDY}")
    check_vocabulary(model, tokenizer)
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    check_scoring(tokenizer, FIELD)
    return model.to(best_device()), tokenizer


def _of_the_head(key: str) -> bool:
    return key.startswith(_HEADS)
