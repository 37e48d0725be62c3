"""A pool's embeddings, made by a process of its own.

What an encoder needs, its libraries most of all, is gone before the embeddings are in memory.
"""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from palimpsest_stage.embed import Embedder
from palimpsest_stage.runtime import Rows

# Not forked: threads of torch do not survive that, nor does a CUDA device.
_SPAWN = multiprocessing.get_context("spawn")
_FLOAT = np.dtype(np.float32)


def embed_apart(
    encoder: Path, rows: Rows, scratch: Path, progress: Callable[[int, int, str], None]
) -> NDArray[np.float32]:
    """Embeddings (count, dimension) of the rows' instructions, in order; by a file in `scratch`.

    Raises ModelUnsuitable, and MemoryError if the process was killed.
    """
    heard, said = _SPAWN.Pipe(duplex=False)
    path = scratch / "embeddings"
    process = _SPAWN.Process(target=_embed, args=(encoder, rows, path, said))
    process.start()
    said.close()
    try:
        _follow(heard, rows.count, progress)
    except EOFError as error:
        raise MemoryError("the embedding process ended without a word") from error
    finally:
        process.kill()
        process.join()
    found = np.fromfile(path, _FLOAT)
    path.unlink()
    # Not reshaped: a view would not own its memory, and could not give back a part of it.
    found.resize((rows.count, len(found) // rows.count), refcheck=False)
    return found


def _follow(heard: Connection, count: int, progress: Callable[[int, int, str], None]) -> None:
    done = 0
    while done < count:
        said = heard.recv()
        if isinstance(said, Exception):
            raise said
        done += said
        progress(done, count, "instructions")


def _embed(encoder: Path, rows: Rows, path: Path, said: Connection) -> None:
    try:
        embedder = Embedder(encoder)
        tokens = (embedder.tokens(row["instruction"]) for row in rows)
        size = embedder.dimension * _FLOAT.itemsize
        with path.open("wb") as file:
            for indices, found in embedder.batches(tokens):
                for index, row in zip(indices, found.numpy(), strict=False):
                    os.pwrite(file.fileno(), row.tobytes(), index * size)
                said.send(len(indices))
    except Exception as error:
        said.send(error)
