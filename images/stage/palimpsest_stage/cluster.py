"""Stage cluster: k-means over the synthetic pool's embeddings. Sees nothing private."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from palimpsest.api.task import ClusterParameters

from palimpsest_stage.clustering import CENTROIDS
from palimpsest_stage.clustering.kmeans import k_means
from palimpsest_stage.clustering.partition import Partition
from palimpsest_stage.clustering.pca import principal, project_in_place
from palimpsest_stage.embed import Embedder, embed_all
from palimpsest_stage.errors import InvalidTask
from palimpsest_stage.runtime import Context, write_json, write_rows

# Of the variance: distances in the rest are mostly noise, and cost as much.
VARIANCE = 0.9


def run(context: Context, _report: dict[str, Any]) -> None:
    """Publish centroids.safetensors, assignments.jsonl ({id, cluster}) and clusters.json."""
    parameters = context.parameters(ClusterParameters)
    rows = context.instructions("pool")
    if len(rows) < parameters.clusters:
        raise InvalidTask("clusters: more than there are instructions in the pool")
    embedder = Embedder(context.model("embedder"))
    texts = [row["instruction"] for row in rows]
    points = embed_all(embedder, texts, context.progress)
    partition, assigned = partitioned(points, parameters.clusters, context.seed("cluster"))

    out = context.folder("out")
    partition.save(out / CENTROIDS)
    write_rows(
        out / "assignments.jsonl",
        [
            {"id": row["id"], "cluster": int(cluster)}
            for row, cluster in zip(rows, assigned, strict=True)
        ],
    )
    sizes = np.bincount(assigned, minlength=parameters.clusters).tolist()
    write_json(
        out / "clusters.json",
        {
            "clusters": parameters.clusters,
            "dimension": embedder.dimension,
            "components": len(partition.components),
            "poolSizes": sizes,
        },
    )
    context.publish({path.name: path for path in out.iterdir()})


def partitioned(
    points: NDArray[np.float32], clusters: int, seed: int
) -> tuple[Partition, NDArray[np.int64]]:
    """(the partition, each point's cluster); points (n, dimension) become projections."""
    onto = principal(points, VARIANCE)
    project_in_place(points, onto)
    centroids, assigned = k_means(points, clusters, seed)
    parts = map(torch.from_numpy, (*onto, centroids))
    return Partition(*parts), assigned
