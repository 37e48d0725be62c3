"""Resampling at the paper's size: 1,000,000 synthetic and 180,000 private embeddings, K = 1000.

`python -m bench.million SIDE` runs one side in a process of its own and prints JSON: seconds by
part, and the process's peak memory. The embeddings are drawn (384 numbers, a spectrum that falls as
sentence encoders' do); making them is no part of the time, holding them is one of the memory.
`texts` begins with lines of text.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from processes import memory

from bench.harness import Benchmark, Pair, Reading

POOL, PRIVATE, DIMENSION, CLUSTERS, SIZE = 1_000_000, 180_000, 384, 1000, 180_000
COMPONENTS, BLOCK, SEED = 200, 10_000, 7
SIGMA = Fraction(10)
EMBEDDINGS = POOL * DIMENSION * 4
MEMORY_GOAL = 1.5

Rows = NDArray[np.float32]


def _draw(out: Rows, seed: int) -> None:
    """Unit rows around `COMPONENTS` places, spread over directions with weights that fall."""
    places = np.random.default_rng(SEED)
    spectrum = (1 / np.sqrt(1 + np.arange(DIMENSION) / 20)).astype(np.float32)
    centres = places.standard_normal((COMPONENTS, DIMENSION), dtype=np.float32) * spectrum
    random = np.random.default_rng(seed)
    for first in range(0, len(out), BLOCK):
        block = out[first : first + BLOCK]
        random.standard_normal(dtype=np.float32, out=block)
        block *= 0.6 * spectrum
        block += centres[random.integers(0, COMPONENTS, len(block))]
        block /= np.linalg.norm(block, axis=1, keepdims=True)


class _Clock:
    def __init__(self) -> None:
        self.parts: dict[str, float] = {}

    def time(self, name: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        done = work()
        self.parts[name] = self.parts.get(name, 0.0) + time.perf_counter() - began
        return done


def stages() -> dict[str, Any]:
    """cluster, histogram and select, as the stages do them; private rows come as batches of 32."""
    import torch  # noqa: PLC0415
    from palimpsest_stage.cluster import partitioned  # noqa: PLC0415
    from palimpsest_stage.dp.noise import discrete_gaussian  # noqa: PLC0415
    from palimpsest_stage.embed import ROWS  # noqa: PLC0415
    from palimpsest_stage.select import apportion, draw, fill  # noqa: PLC0415

    clock = _Clock()
    points = np.empty((POOL, DIMENSION), dtype=np.float32)
    _draw(points, seed=1)
    partition, assigned = clock.time("cluster", lambda: partitioned(points, CLUSTERS, SEED))
    votes = np.zeros(CLUSTERS, dtype=np.int64)
    block = np.empty((PRIVATE // 10, DIMENSION), dtype=np.float32)

    def vote() -> None:
        rows = torch.from_numpy(block)
        for first in range(0, len(rows), ROWS):
            np.add.at(votes, partition.nearest(rows[first : first + ROWS]).numpy(), 1)

    for part in range(10):
        _draw(block, seed=100 + part)
        clock.time("histogram", vote)
    noisy = clock.time(
        "histogram", lambda: [int(count) + discrete_gaussian(SIGMA) for count in votes]
    )

    def select() -> list[int]:
        available = np.bincount(assigned, minlength=CLUSTERS)
        taken = fill(apportion(SIZE, noisy), available, partition.centroids.numpy())
        return draw(assigned, taken, np.random.default_rng(SEED))

    chosen = clock.time("select", select)
    assert len(set(chosen)) == SIZE
    return {**clock.parts, "components": len(partition.components)}


def bare() -> dict[str, Any]:
    """faiss' k-means with the same settings on the same embeddings, and their assignment."""
    import faiss  # noqa: PLC0415
    from palimpsest_stage.clustering import kmeans  # noqa: PLC0415

    clock = _Clock()
    points = np.empty((POOL, DIMENSION), dtype=np.float32)
    _draw(points, seed=1)

    def work() -> None:
        found = faiss.Kmeans(
            DIMENSION,
            CLUSTERS,
            niter=kmeans.ITERATIONS,
            nredo=kmeans.RESTARTS,
            seed=SEED,
            max_points_per_centroid=kmeans.POINTS_PER_CENTROID,
        )
        found.train(points)
        found.index.search(points, 1)

    clock.time("k-means", work)
    return clock.parts


def texts() -> dict[str, Any]:
    """The cluster stage from a million lines on; an encoder of one layer, for its time is no part.

    Whose memory a process holds does not depend on what the embeddings are. The peak is that of
    the stage's process, or while it waits for the embeddings its memory and its child's peak.
    """
    from cluster.parts import typed_questions  # noqa: PLC0415
    from palimpsest_stage.cluster import cluster  # noqa: PLC0415
    from palimpsest_stage.clustering.embedding import embed_apart  # noqa: PLC0415
    from palimpsest_stage.runtime import Rows, write_rows  # noqa: PLC0415

    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        # Apart, for what it imports is no part of the stage's memory.
        making = multiprocessing.get_context("spawn").Process(target=_small_encoder, args=(folder,))
        making.start()
        making.join()
        questions = typed_questions("BoolQ")
        lines = (
            {"id": f"0-{number}", "instruction": f"{questions[number % len(questions)]} {number}"}
            for number in range(POOL)
        )
        rows = Rows([write_rows(folder / "pool.jsonl", lines)])
        out = folder / "out"
        out.mkdir()
        waiting = 0

        def progress(*_: object) -> None:
            nonlocal waiting
            waiting = max(waiting, memory(os.getpid(), "VmRSS"))

        points = embed_apart(folder / "encoder", rows, folder, progress)
        # In KiB, of the largest child.
        child = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        cluster(rows, points, CLUSTERS, SEED, out)
    embedding, clustering = waiting + child, memory(os.getpid(), "VmHWM")
    return {"embedding": embedding, "clustering": clustering, "peak": max(embedding, clustering)}


def _small_encoder(folder: Path) -> None:
    from cluster.parts import minilm  # noqa: PLC0415
    from transformers import AutoConfig, AutoModel, AutoTokenizer  # noqa: PLC0415

    config = AutoConfig.from_pretrained(minilm().folder, num_hidden_layers=1)
    AutoModel.from_config(config).save_pretrained(folder / "encoder")
    AutoTokenizer.from_pretrained(minilm().folder).save_pretrained(folder / "encoder")


SIDES: dict[str, Callable[[], dict[str, Any]]] = {"stages": stages, "bare": bare, "texts": texts}


def _run(side: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.million", side]
    found: dict[str, Any] = json.loads(
        subprocess.run(command, check=True, capture_output=True).stdout
    )
    return found


def _seconds(found: dict[str, Any]) -> float:
    parts = ("cluster", "histogram", "select", "k-means")
    return float(sum(found[part] for part in parts if part in found))


def prepare(_: ExitStack) -> Pair:
    runs: list[dict[str, Any]] = []

    def ours() -> float:
        runs.append(_run("stages"))
        print(f"  {json.dumps(runs[-1])}", flush=True)
        return _seconds(runs[-1])

    def readings() -> Sequence[Reading]:
        peak = max(run["peak"] for run in runs)
        last = runs[-1]
        parts = ", ".join(
            f"{part} {last[part]:.1f} s" for part in ("cluster", "histogram", "select")
        )
        return [
            Reading(
                "resampling-memory",
                peak / EMBEDDINGS,
                "of the embeddings",
                MEMORY_GOAL,
                f"peak of the whole process over the {EMBEDDINGS / 1e9:.2f} GB of embeddings; of "
                f"the last run: {parts}, {last['components']} components",
            ),
            Reading(
                "cluster-memory",
                _run("texts")["peak"] / EMBEDDINGS,
                "of the embeddings",
                MEMORY_GOAL,
                f"likewise of the cluster stage alone, from {POOL:,} lines of text to the files "
                "that it publishes",
            ),
        ]

    return Pair(ours, lambda: _seconds(_run("bare")), readings)


BENCHMARK = Benchmark(
    "resampling",
    "s",
    "lower",
    f"cluster, histogram and select with {POOL:,} x {DIMENSION} synthetic and {PRIVATE:,} "
    f"private embeddings, K = {CLUSTERS:,}, {SIZE:,} selected",
    "faiss' k-means alone with the same settings on the same embeddings (goal: at most 1.2 times "
    "as long)",
    1 / 1.2,
    prepare,
)


if __name__ == "__main__":
    made = SIDES[sys.argv[1]]()
    print(json.dumps({"peak": memory(os.getpid(), "VmHWM"), **made}))
