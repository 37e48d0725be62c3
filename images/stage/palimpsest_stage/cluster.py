"""Stage cluster: k-means over the synthetic pool's embeddings. Sees nothing private."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from palimpsest.api.task import ClusterParameters

from palimpsest_stage.clustering import CENTROIDS
from palimpsest_stage.clustering.embedding import embed_apart
from palimpsest_stage.clustering.kmeans import k_means
from palimpsest_stage.clustering.partition import Partition
from palimpsest_stage.clustering.pca import principal, project_in_place
from palimpsest_stage.errors import InvalidTask
from palimpsest_stage.runtime import Context, Rows, write_json, write_rows

# Of the variance: distances in the rest are mostly noise, and cost as much.
VARIANCE = 0.9


def run(context: Context, _report: dict[str, Any]) -> None:
    """Publish centroids.safetensors, assignments.jsonl ({id, cluster}) and clusters.json."""
    parameters = context.parameters(ClusterParameters)
    rows = context.rows("pool")
    if rows.count < parameters.clusters:
        raise InvalidTask("clusters: more than there are instructions in the pool")
    encoder, scratch = context.model("embedder"), context.folder("embeddings")
    points = embed_apart(encoder, rows, scratch, context.progress)
    out = context.folder("out")
    cluster(rows, points, parameters.clusters, context.seed("cluster"), out)
    context.publish({path.name: path for path in out.iterdir()})


def cluster(rows: Rows, points: NDArray[np.float32], clusters: int, seed: int, out: Path) -> None:
    """Write the stage's files; the rows' embeddings (n, dimension) become projections."""
    dimension = points.shape[1]
    partition, assigned = partitioned(points, clusters, seed)
    partition.save(out / CENTROIDS)
    write_rows(
        out / "assignments.jsonl",
        (
            {"id": row["id"], "cluster": int(cluster)}
            for row, cluster in zip(rows, assigned, strict=True)
        ),
    )
    write_json(
        out / "clusters.json",
        {
            "clusters": clusters,
            "dimension": dimension,
            "components": len(partition.components),
            "poolSizes": np.bincount(assigned, minlength=clusters).tolist(),
            # Of the centroids along the two main directions: a map for the card.
            "places": _places(partition),
        },
    )


def _places(partition: Partition) -> list[list[float]]:
    """(x, y) of each centroid; of one height where the pool varies in one direction only."""
    lacking = max(0, 2 - partition.centroids.shape[1])
    found = torch.nn.functional.pad(partition.centroids[:, :2], (0, lacking))
    return [[round(x, 4), round(y, 4)] for x, y in found.tolist()]


def partitioned(
    points: NDArray[np.float32], clusters: int, seed: int
) -> tuple[Partition, NDArray[np.int64]]:
    """(the partition, each point's cluster); points (n, dimension) become projections."""
    onto = principal(points, VARIANCE)
    project_in_place(points, onto)
    centroids, assigned = k_means(points, clusters, seed)
    parts = map(torch.from_numpy, (*onto, centroids))
    return Partition(*parts), assigned
