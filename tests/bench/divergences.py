"""How far two sets of texts are apart, by the features that an encoder gives them."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray
from palimpsest_stage.clustering.pca import principal, project_in_place

Features = NDArray[np.float32]
Masses = NDArray[np.float64]

# Of Pillutla et al. (2021), MAUVE, and of their program: settings that figures are compared at.
TEXTS_A_BUCKET, VARIANCE, SCALING, MIXTURES = 10, 0.9, 5.0, 25
# Theirs: the best of 5 starts of 500, 25 times the work of one start of these for means over
# five seeds that differ by 0.02 at most (two normal clouds, from alike to apart).
ITERATIONS = 100


def mauve(p: Features, q: Features, seed: int) -> float:
    """MAUVE of two sets of features (rows, dimension), as many of one as of the other; 1: alike.

    Pillutla et al. (2021), section 3: the area under the divergence curve of both histograms over
    k-means' clusters of all features together.
    """
    points = np.concatenate([p, q])
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    project_in_place(points, principal(points, VARIANCE))
    buckets = max(2, round(min(len(p), len(q)) / TEXTS_A_BUCKET))
    means = faiss.Kmeans(
        points.shape[1],
        buckets,
        niter=ITERATIONS,
        seed=seed + 1,
        max_points_per_centroid=len(points),
        min_points_per_centroid=1,
    )
    means.train(points)
    found = means.index.search(points, 1)[1][:, 0]
    return area(_histogram(found[: len(p)], buckets), _histogram(found[len(p) :], buckets))


def area(p: Masses, q: Masses) -> float:
    """Under the divergence curve of two distributions (buckets,), both axes in turn."""
    x, y = [0.0], [1.0]
    for weight in np.linspace(1e-6, 1 - 1e-6, MIXTURES):
        mixture = weight * p + (1 - weight) * q
        x.append(np.exp(-SCALING * kullback_leibler(q, mixture)))
        y.append(np.exp(-SCALING * kullback_leibler(p, mixture)))
    across, up = np.array([*x, 1.0]), np.array([*y, 0.0])
    return (_under(across, up) + _under(up, across)) / 2


def kullback_leibler(p: Masses, q: Masses) -> float:
    """In nats."""
    there = p > 0
    return float((p[there] * np.log(p[there] / q[there])).sum())


def frechet(p: Features, q: Features) -> float:
    """Squared Fréchet distance of the normals with both sets' moments (Heusel et al. 2017)."""
    one, other = (np.cov(each, rowvar=False).astype(np.float64) for each in (p, q))
    apart = np.square(p.mean(0, dtype=np.float64) - q.mean(0, dtype=np.float64)).sum()
    # The trace of the root of a product of two covariances is that of a symmetric one's.
    root = _root(one)
    common = np.sqrt(np.linalg.eigvalsh(root @ other @ root).clip(min=0)).sum()
    return float(apart + np.trace(one) + np.trace(other) - 2 * common)


def _root(covariance: Masses) -> Masses:
    values, vectors = np.linalg.eigh(covariance)
    root: Masses = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    return root


def _histogram(found: NDArray[np.int64], buckets: int) -> Masses:
    counts: Masses = np.bincount(found, minlength=buckets) / len(found)
    return counts


def _under(across: Masses, up: Masses) -> float:
    order = np.lexsort((-up, across))
    return float(np.trapezoid(up[order], across[order]))
