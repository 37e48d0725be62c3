"""Selection by a noisy histogram: exact size, no replacement, no inflation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from palimpsest_stage.select import apportion, draw, fill, pool_that_would_do

counts = st.lists(st.integers(-50, 500), min_size=1, max_size=20)


def centroids(clusters: int, seed: int = 0) -> NDArray[np.float32]:
    points = np.random.default_rng(seed).normal(size=(clusters, 6)).astype(np.float32)
    unit: NDArray[np.float32] = points / np.linalg.norm(points, axis=1, keepdims=True)
    return unit


@given(size=st.integers(0, 1000), noisy=counts)
def test_shares_sum_to_the_size_and_follow_the_clamped_counts(size: int, noisy: list[int]) -> None:
    shares = apportion(size, noisy)
    assert int(shares.sum()) == size
    clamped = [max(count, 0) for count in noisy]
    total = sum(clamped)
    for share, count in zip(shares, clamped, strict=True):
        exact = size * count / total if total else size / len(noisy)
        assert abs(share - exact) < 1


@settings(max_examples=200)
@given(data=st.data(), noisy=counts)
def test_selection_has_the_exact_size_without_replacement(
    data: st.DataObject, noisy: list[int]
) -> None:
    clusters = len(noisy)
    assigned = np.array(data.draw(st.lists(st.integers(0, clusters - 1), min_size=1, max_size=200)))
    size = data.draw(st.integers(0, len(assigned)))
    available = np.bincount(assigned, minlength=clusters)
    wanted = apportion(size, noisy)
    taken = fill(wanted, available, centroids(clusters))
    chosen = draw(assigned, taken, np.random.default_rng(0))
    assert len(chosen) == len(set(chosen)) == size
    assert (taken <= available).all()
    # Nothing is taken from a cluster beyond its share unless another was short.
    assert int(np.maximum(taken - wanted, 0).sum()) == int(np.maximum(wanted - available, 0).sum())


def test_a_lack_goes_to_the_nearest_centroid() -> None:
    places = np.array([[1.0, 0.0], [0.9, 0.436], [0.0, 1.0]], dtype=np.float32)
    taken = fill(np.array([5, 0, 0]), np.array([2, 2, 9]), places)
    assert taken.tolist() == [2, 2, 1]


def test_negative_counts_do_not_inflate_the_rest() -> None:
    assert apportion(100, [-30, 60, 40]).tolist() == [0, 60, 40]
    assert apportion(4, [-5, -1]).tolist() == [2, 2]


@pytest.mark.parametrize(
    ("wanted", "available", "pool"),
    [([5, 5], [10, 10], 20), ([8, 2], [4, 6], 20), ([1, 1], [0, 9], None)],
)
def test_pool_that_would_do(wanted: list[int], available: list[int], pool: int | None) -> None:
    assert pool_that_would_do(np.array(wanted), np.array(available)) == pool
