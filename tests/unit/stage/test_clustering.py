"""Partitions of embedding space: PCA in place, k-means, and where a row lies."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from palimpsest_stage.cluster import partitioned
from palimpsest_stage.clustering import pca
from palimpsest_stage.clustering.partition import Partition
from palimpsest_stage.clustering.pca import principal, project_in_place
from palimpsest_stage.errors import InputMismatch
from safetensors.torch import save_file
from unit.stage.mixtures import Mixture


def rows(count: int = 500, dimension: int = 24, seed: int = 0) -> NDArray[np.float32]:
    """Correlated, off the origin, of a falling spectrum."""
    random = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(random.normal(size=(dimension, dimension)))
    spread = 0.8 ** np.arange(dimension)
    drawn: NDArray[np.float64] = random.normal(size=(count, dimension)) * spread @ basis + 0.5
    return drawn.astype(np.float32)


@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
def test_the_fewest_components_that_explain_the_share(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pca, "_BLOCK", 64)
    points = rows()
    found = principal(points, share)
    values = np.linalg.svd(points - points.mean(0), compute_uv=False) ** 2
    explained = values.cumsum() / values.sum()
    kept = len(found.components)
    assert explained[kept - 1] >= share - 1e-6
    assert kept == 1 or explained[kept - 2] < share
    assert np.allclose(found.components @ found.components.T, np.eye(kept), atol=1e-5)
    projected = (points - found.mean) @ found.components.T
    assert projected.var(0).sum() / points.var(0).sum() == pytest.approx(
        explained[kept - 1], rel=1e-4
    )


def test_rows_that_do_not_vary_keep_one_component() -> None:
    same = np.ones((5, 4), dtype=np.float32)
    assert principal(same, 0.9).components.shape == (1, 4)


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_projection_in_place_is_the_projection(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pca, "_BLOCK", block)
    points = rows(333)
    onto = principal(points, 0.9)
    expected = (points - onto.mean) @ onto.components.T
    project_in_place(points, onto)
    assert np.allclose(points, expected, atol=1e-5)


def test_no_others_memory_is_projected() -> None:
    points = rows()
    with pytest.raises(ValueError, match="own"):
        project_in_place(points[:100], principal(points, 0.9))


def test_a_row_lies_where_the_nearest_projected_centroid_is() -> None:
    points = rows(2000, seed=1)
    partition, assigned = partitioned(points.copy(), 12, seed=3)
    tensors = (partition.mean, partition.components, partition.centroids)
    mean, components, centroids = (tensor.double() for tensor in tensors)
    projected = (torch.from_numpy(points).double() - mean) @ components.T
    apart = torch.cdist(projected, centroids)
    found = partition.nearest(torch.from_numpy(points))
    # Rounding may decide between two centroids that are as near.
    best = apart.min(1).values
    for numbers in (found, torch.from_numpy(assigned)):
        chosen = apart.gather(1, numbers[:, None])[:, 0]
        assert bool((chosen <= best + 1e-4).all())
    assert (found.numpy() == assigned).mean() > 0.999
    assert len(np.unique(assigned)) == 12


def test_clusters_do_not_mix_the_components_of_a_mixture() -> None:
    mixture = Mixture.of(components=8, dimension=48, seed=5)
    points, source = mixture.draw(np.full(8, 1 / 8), 4000, seed=6)
    # More than there are components: k-means may split one, and then merges no two.
    _, assigned = partitioned(points, 24, seed=1)
    table = np.zeros((24, 8))
    np.add.at(table, (assigned, source), 1)
    assert table.max(1).sum() / len(source) > 0.98


def test_a_partition_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    partition, _ = partitioned(rows(), 5, seed=0)
    again = Partition.load(partition.save(tmp_path / "made"), 24)
    assert len(again) == 5
    assert torch.equal(again.components, partition.components)
    points = torch.from_numpy(rows(seed=9))
    assert torch.equal(again.nearest(points), partition.nearest(points))


@pytest.mark.parametrize(
    "change",
    [
        {"mean": torch.zeros(23)},
        {"centroids": torch.zeros(5, 3)},
        {"components": torch.zeros(2, 23)},
        {"mean": torch.zeros(24, dtype=torch.float64)},
        {"components": torch.zeros(24)},
    ],
)
def test_what_is_no_partition_of_this_embedder_is_refused(
    change: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    whole = {
        "mean": torch.zeros(24),
        "components": torch.zeros(2, 24),
        "centroids": torch.zeros(5, 2),
    }
    save_file(whole | change, tmp_path / "made")
    with pytest.raises(InputMismatch, match="centroids"):
        Partition.load(tmp_path / "made", 24)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "made").write_bytes(b"nothing")
    with pytest.raises(InputMismatch, match="cluster stage"):
        Partition.load(tmp_path / "made", 24)
