"""Instructions of the demo's generators, each trained anew.

A pool is kept in build/bench/pools/ as soon as it is drawn. On a GPU where there is one.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from cluster import parts
from cluster.cache import write_atomic
from palimpsest_stage import lora
from palimpsest_stage.decode import decode, nucleus
from palimpsest_stage.models import load_causal
from palimpsest_stage.text import layout

from bench.page import ROOT
from bench.private_sets import PRIVATE
from bench.utility import MAX_LENGTH, Cell, trained

KEPT = ROOT / "build" / "bench" / "pools"
DATA = PRIVATE[0]
# The quickstart's.
EPSILON, RATE, TOP_P = "3", "0.01", 0.95
POOLS = 3
ROWS = 1024 if torch.cuda.is_available() else 256


def pool(seed: int, count: int, epsilon: str = EPSILON) -> list[str]:
    """At most so many instructions of a generator that was trained on the private texts."""
    kept = KEPT / f"epsilon-{epsilon}-{seed}-{count}.json"
    if not kept.exists():
        adapters = trained(DATA, Cell(DATA.name, epsilon, RATE, seed))
        with tempfile.TemporaryDirectory() as folder:
            adapters.save(Path(folder))
            model, tokenizer = load_causal(parts.smollm2().folder, "bfloat16")
            lora.merge(model, Path(folder))
        texts = _sampled(model, tokenizer, count, seed)
        write_atomic(kept, json.dumps(texts))
    found: list[str] = json.loads(kept.read_text())
    return found


def _sampled(model: Any, tokenizer: Any, count: int, seed: int) -> list[str]:
    shape = layout(tokenizer, DATA.prompt, MAX_LENGTH)
    choose = nucleus(1.0, TOP_P, torch.Generator().manual_seed(seed))
    ended = list(decode(model, [shape.start] * count, MAX_LENGTH, {shape.end}, choose, ROWS))
    texts = tokenizer.batch_decode([ids for _, ids in ended], skip_special_tokens=True)
    return [text.strip() for text in texts if text.strip()]
