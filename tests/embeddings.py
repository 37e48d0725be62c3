"""Embeddings of a few texts, in this process."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from palimpsest_stage.embed import Embedder


def embed_all(embedder: Embedder, texts: Sequence[str]) -> NDArray[np.float32]:
    """Embeddings (len(texts), dimension), in order."""
    out = np.empty((len(texts), embedder.dimension), dtype=np.float32)
    for indices, rows in embedder.batches(embedder.tokens(text) for text in texts):
        out[indices] = rows[: len(indices)].numpy()
    return out
