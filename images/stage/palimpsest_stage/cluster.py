"""Stage cluster: k-means over the synthetic pool's embeddings. Sees nothing private."""

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from palimpsest.api.task import ClusterParameters
from safetensors.numpy import save_file

from palimpsest_stage.embed import Embedder, embed_all
from palimpsest_stage.errors import InvalidTask
from palimpsest_stage.runtime import Context, write_json, write_rows

CENTROIDS = "centroids.safetensors"
ITERATIONS = 25
RESTARTS = 3


def run(context: Context, _report: dict[str, Any]) -> None:
    """Publish centroids.safetensors, assignments.jsonl ({id, cluster}) and clusters.json."""
    parameters = context.parameters(ClusterParameters)
    rows = context.instructions("pool")
    if len(rows) < parameters.clusters:
        raise InvalidTask("clusters: more than there are instructions in the pool")
    embedder = Embedder(context.model("embedder"))
    texts = [row["instruction"] for row in rows]
    points = embed_all(embedder, texts, context.progress).numpy()
    centroids, assigned = spherical_k_means(points, parameters.clusters, context.seed("cluster"))

    out = context.folder("out")
    save_file({"centroids": centroids}, out / CENTROIDS)
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
        {"clusters": parameters.clusters, "dimension": embedder.dimension, "poolSizes": sizes},
    )
    context.publish({path.name: path for path in out.iterdir()})


def spherical_k_means(
    points: NDArray[np.float32], clusters: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(unit centroids (clusters, dimension), nearest by inner product) of unit points."""
    kmeans = faiss.Kmeans(
        points.shape[1],
        clusters,
        niter=ITERATIONS,
        nredo=RESTARTS,
        spherical=True,
        seed=seed % 2**31,
        min_points_per_centroid=1,
        max_points_per_centroid=max(256, -(-len(points) // clusters)),
    )
    kmeans.train(points)
    centroids = np.ascontiguousarray(kmeans.centroids, dtype=np.float32)
    return centroids, (points @ centroids.T).argmax(1)
