"""python -m bench.fidelity: how like private texts what is sampled and selected is; a table.

docs/benchmarks.md. Private: BoolQ's questions; generators: the demo's.
"""

from __future__ import annotations

import argparse
import sys
from decimal import Decimal
from statistics import mean
from typing import Any

import numpy as np
import torch
from cluster import parts
from embeddings import embed_all
from numpy.typing import NDArray
from palimpsest.privacy.clusters import NOISE_SHARE, clusters_within
from palimpsest_stage.cluster import partitioned
from palimpsest_stage.embed import Embedder
from palimpsest_stage.models import load_causal
from unit.stage.resampled import Clustered, apart

from bench.divergences import Features, frechet, mauve
from bench.page import BENCHMARKS, renew
from bench.pools import DATA, EPSILON, POOLS, TOP_P, pool

# Instructions of a generator; texts compared; noise.
POOL, SIZE, SIGMA = 30_000, 3_000, 10
CLUSTERS = clusters_within(NOISE_SHARE, Decimal(SIGMA), DATA.records)
# k-means' of MAUVE.
SEEDS = 5
# Of the metrics' encoder; as many as give a share of 1% its thirty texts.
OWN_CLUSTERS = 100
ROWS = 256
REAL, BEFORE, AFTER = "other private records", "of the pool at random", "selected"
EXACT, PERMUTED = "by the exact histogram", "by a permuted histogram"

Figures = dict[str, dict[str, list[float]]]


@torch.inference_mode()
def features(model: Any, tokenizer: Any, texts: list[str]) -> Features:
    """The hidden state of each text's last token (texts, dimension), of unit length.

    What MAUVE's authors take of their language model.
    """
    found = np.empty((len(texts), model.config.hidden_size), dtype=np.float32)
    ids = [tokenizer(text)["input_ids"] for text in texts]
    order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
    for first in range(0, len(order), ROWS):
        some = order[first : first + ROWS]
        lengths = torch.tensor([len(ids[index]) for index in some])
        tokens = torch.zeros(len(some), int(lengths.max()), dtype=torch.long)
        for row, index in enumerate(some):
            tokens[row, : lengths[row]] = torch.tensor(ids[index])
        # Padding comes last, where no token of the text can see it.
        hidden = model.model(input_ids=tokens.to(model.device)).last_hidden_state
        last = hidden.cpu()[torch.arange(len(some)), lengths - 1]
        found[np.array(some)] = last.float().numpy()
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


class Scene:
    """The private texts by both encoders, and the sets that are compared with them."""

    def __init__(self) -> None:
        self.embedder = Embedder(parts.minilm().folder)
        self._encode = load_causal(parts.smollm2().folder, "bfloat16")
        self.private, _ = DATA.texts()
        self.votes = self.embedded(self.private)
        self.own = self.encoded(self.private)
        self.partition, self.clusters = partitioned(self.own.copy(), OWN_CLUSTERS, 0)

    def embedded(self, texts: list[str]) -> Features:
        """By the resampler's encoder."""
        return embed_all(self.embedder, texts)

    def encoded(self, texts: list[str]) -> Features:
        """By the metrics' own."""
        return features(*self._encode, texts)


def measure(scene: Scene, seed: int) -> Figures:
    """Of one pool: set -> metric -> figures."""
    texts = pool(seed, POOL)
    clustered = Clustered.from_points(scene.embedded(texts), scene.votes, CLUSTERS, seed)
    at_random = np.random.default_rng(seed)
    real, other = at_random.permutation(len(scene.private))[: 2 * SIZE].reshape(2, SIZE)
    nearest = clustered.partition.nearest(torch.from_numpy(scene.votes)).numpy()
    sets: dict[str, NDArray[np.int64]] = {
        BEFORE: at_random.choice(len(texts), SIZE, replace=False),
        AFTER: np.array(clustered.chosen(clustered.noisy(SIGMA), SIZE, seed)),
        EXACT: np.array(clustered.chosen(clustered.votes.tolist(), SIZE, seed)),
        PERMUTED: np.array(clustered.chosen(clustered.permuted(), SIZE, seed)),
    }
    figures = {REAL: _compared(scene, clustered, real, scene.own[other], nearest[other])}
    for name, chosen in sets.items():
        theirs = scene.encoded([texts[index] for index in chosen])
        figures[name] = _compared(scene, clustered, real, theirs, clustered.cluster_of[chosen])
    return figures


def _compared(
    scene: Scene,
    clustered: Clustered,
    real: NDArray[np.int64],
    theirs: Features,
    clusters: NDArray[np.int64],
) -> dict[str, list[float]]:
    """Of one set of texts, by its features and its clusters, against private texts `real`."""
    ours = scene.own[real]
    records = len(scene.private)
    nearest = scene.partition.nearest(torch.from_numpy(theirs)).numpy()
    return {
        "MAUVE": [mauve(ours, theirs, seed) for seed in range(SEEDS)],
        "Fréchet distance": [frechet(ours, theirs)],
        "resampler's clusters": [apart(_shares(clusters, CLUSTERS), clustered.votes / records)],
        "own clusters": [
            apart(_shares(nearest, OWN_CLUSTERS), _shares(scene.clusters, OWN_CLUSTERS))
        ],
    }


def _shares(clusters: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.bincount(clusters, minlength=count) / len(clusters)
    return shares


def section(found: list[Figures]) -> str:
    """In Markdown: means, and from the least to the greatest, over the pools and their seeds."""
    names = (REAL, BEFORE, AFTER, EXACT, PERMUTED)
    metrics = list(found[0][REAL])
    lines = [
        "## Fidelity",
        "",
        f"Distance of {SIZE:,} texts from {SIZE:,} of {DATA.name}'s {DATA.records:,} private "
        f"questions. {POOLS} generators (SmolLM2-135M-Instruct, epsilon {EPSILON}, the "
        f"quickstart's settings, each with noise of its own), {POOL:,} instructions of "
        f"each, nucleus {TOP_P}; resampled in {CLUSTERS} clusters of all-MiniLM-L6-v2 with noise "
        f"{SIGMA}. Mean (least to greatest). `make fidelity`.",
        "",
        f"| {DATA.name} | {' | '.join(metrics)} |",
        "|---" * (len(metrics) + 1) + "|",
    ]
    for name in names:
        cells = [_told([value for one in found for value in one[name][each]]) for each in metrics]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "- **MAUVE** (Pillutla et al. 2021; 1: alike) and the **Fréchet distance** are of the last "
        "token's hidden state of SmolLM2-135M-Instruct, which has no part in resampling; MAUVE "
        f"with {SEEDS} seeds of its k-means.",
        f"- **Clusters**: total-variation distance from all {DATA.records:,} records, in the "
        f"resampler's {CLUSTERS} and in {OWN_CLUSTERS} of the metrics' features of the records.",
        f"- **{REAL}**: {SIZE:,} that are not among those compared with: how far apart chance "
        "leaves two draws. In the resampler's clusters a selection lies nearer, for it is no draw: "
        "it has the histogram's shares.",
    ]
    return "\n".join(lines)


def _told(values: list[float]) -> str:
    return f"{mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main(arguments: list[str]) -> int:
    """Renews the page's table."""
    argparse.ArgumentParser(prog="bench.fidelity", description=__doc__).parse_args(arguments)
    scene, found = Scene(), list[Figures]()
    for seed in range(POOLS):
        found.append(measure(scene, seed))
        for name, figures in found[-1].items():
            told = ", ".join(f"{metric} {_told(values)}" for metric, values in figures.items())
            print(f"{seed}, {name}: {told}", flush=True)
    renew(BENCHMARKS, "fidelity", section(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
