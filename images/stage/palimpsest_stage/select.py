"""Stage select: draw from the pool, cluster by cluster, in the noisy histogram's proportions.

arXiv 2402.13659, section 3.2. Sees the released counts only.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from palimpsest.api.task import SelectParameters
from safetensors.numpy import load_file

from palimpsest_stage.clustering import CENTROIDS
from palimpsest_stage.errors import InputMismatch, InvalidTask
from palimpsest_stage.runtime import Context, write_json, write_rows


def run(context: Context, _report: dict[str, Any]) -> None:
    """Publish selected.jsonl ({id, instruction, cluster}) and selection.json."""
    parameters = context.parameters(SelectParameters)
    pool = context.instructions("pool")
    clusters, histogram = context.artifact("clusters"), context.artifact("histogram")
    try:
        with (clusters / "assignments.jsonl").open(encoding="utf-8") as file:
            assigned = {row["id"]: row["cluster"] for row in map(json.loads, file)}
        centroids = load_file(clusters / CENTROIDS)["centroids"]
        noisy = json.loads((histogram / "histogram.json").read_text())["noisy"]
        cluster_of = np.array([assigned[row["id"]] for row in pool])
    except (OSError, ValueError, KeyError) as error:
        raise InputMismatch("clusters, histogram and pool do not belong together") from error
    if len(noisy) != len(centroids):
        raise InputMismatch("the histogram has another number of clusters")
    if parameters.size > len(pool):
        raise InvalidTask(f"size: at most {len(pool)} can be selected from this pool")

    available = np.bincount(cluster_of, minlength=len(noisy))
    wanted = apportion(parameters.size, noisy)
    taken = fill(wanted, available, centroids)
    chosen = draw(cluster_of, taken, np.random.default_rng(context.seed("select")))
    figures = {"poolShortfall": int(np.maximum(wanted - available, 0).sum())}
    enough = pool_that_would_do(wanted, available)
    if enough is not None:
        figures["poolThatWouldDo"] = enough
    out = context.folder("out")
    rows = [
        {
            "id": pool[index]["id"],
            "instruction": pool[index]["instruction"],
            "cluster": int(cluster_of[index]),
        }
        for index in chosen
    ]
    write_rows(out / "selected.jsonl", rows)
    write_json(
        out / "selection.json",
        {
            "size": len(rows),
            "pool": len(pool),
            **figures,
            "wanted": wanted.tolist(),
            "taken": taken.tolist(),
        },
    )
    context.publish({path.name: path for path in out.iterdir()}, figures)


def apportion(size: int, noisy: Sequence[int]) -> NDArray[np.int64]:
    """Whole numbers that sum to `size`, in proportion to the counts made consistent.

    Largest remainders, in exact integer arithmetic.
    """
    weights = consistent(noisy)
    total = sum(weights)
    shares = [size * weight // total for weight in weights]
    remainders = [size * weight % total for weight in weights]
    order = sorted(range(len(weights)), key=lambda cluster: (-remainders[cluster], cluster))
    for cluster in order[: size - sum(shares)]:
        shares[cluster] += 1
    return np.array(shares, dtype=np.int64)


def consistent(noisy: Sequence[int]) -> list[int]:
    """Weights that are not negative, in the proportions of the noisy counts; post-processing.

    To take negative counts as zero adds what noise took from them, and so favours small clusters.
    Norm-Sub (Wang et al. 2020, Locally Differentially Private Frequency Estimation with
    Consistency) takes as much from every count that stays positive as keeps the sum. Only zeros are
    added where there is no sum to keep; equal weights if no count is positive.
    """
    counts = sorted((int(count) for count in noisy), reverse=True)
    if counts[0] <= 0:
        return [1] * len(counts)
    total = sum(counts)
    kept, excess = 1, 0
    if total > 0:
        above = 0
        for place, count in enumerate(counts, 1):
            above += count
            # What would be taken from each of the `place` largest is less than the smallest has.
            if place * count > above - total:
                kept, excess = place, above - total
    return [max(kept * int(count) - excess, 0) for count in noisy]


def fill(
    wanted: NDArray[np.int64], available: NDArray[np.int64], centroids: NDArray[np.float32]
) -> NDArray[np.int64]:
    """How many to take from each cluster: as wanted, and what a cluster lacks from its neighbours.

    The largest lack is served first, from the clusters of the nearest centroids (clusters, kept)
    that have some left. The sum is kept if the pool is large enough.
    """
    taken = np.minimum(wanted, available)
    lack = wanted - taken
    for cluster in sorted(np.flatnonzero(lack), key=lambda c: (-lack[c], c)):
        apart = np.square(centroids - centroids[cluster]).sum(1)
        nearest = np.argsort(apart, kind="stable")
        for neighbour in nearest:
            if lack[cluster] == 0:
                break
            moved = min(lack[cluster], available[neighbour] - taken[neighbour])
            taken[neighbour] += moved
            lack[cluster] -= moved
    return taken


def draw(
    cluster_of: NDArray[np.int64], taken: NDArray[np.int64], random: np.random.Generator
) -> list[int]:
    """Pool indices in random order, without replacement, `taken[c]` of each cluster c."""
    order = np.argsort(cluster_of, kind="stable")
    members = np.split(order, np.bincount(cluster_of, minlength=len(taken)).cumsum()[:-1])
    chosen = [
        random.choice(some, size=count, replace=False)
        for some, count in zip(members, taken, strict=True)
    ]
    indices: list[int] = random.permutation(np.concatenate(chosen)).tolist()
    return indices


def pool_that_would_do(wanted: NDArray[np.int64], available: NDArray[np.int64]) -> int | None:
    """Pool size at which, at the pool's own proportions, no cluster would be short.

    None if a wanted cluster is empty in this pool: no size can be told from it.
    """
    needed = wanted > 0
    if bool((available[needed] == 0).any()):
        return None
    pool = int(available.sum())
    pairs = zip(wanted[needed].tolist(), available[needed].tolist(), strict=True)
    sizes: list[int] = [-(-pool * want // have) for want, have in pairs]
    return max(pool, *sizes)
