"""k-means by faiss."""

import faiss
import numpy as np
from numpy.typing import NDArray

ITERATIONS = 25
# Of these the best one counts.
RESTARTS = 3
# Centroids are learned from so many points each, drawn at random; all points are assigned.
POINTS_PER_CENTROID = 256


def k_means(
    points: NDArray[np.float32], clusters: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(centroids (clusters, dimension), the nearest one's number of each point)."""
    kmeans = faiss.Kmeans(
        points.shape[1],
        clusters,
        niter=ITERATIONS,
        nredo=RESTARTS,
        seed=seed % 2**31,
        min_points_per_centroid=1,
        max_points_per_centroid=POINTS_PER_CENTROID,
    )
    kmeans.train(points)
    _, nearest = kmeans.index.search(points, 1)
    return np.ascontiguousarray(kmeans.centroids, dtype=np.float32), nearest[:, 0]
