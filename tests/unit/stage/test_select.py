"""Selection by a noisy histogram: exact size, no replacement, no inflation."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from palimpsest_stage.select import apportion, consistent, draw, fill, pool_that_would_do

counts = st.lists(st.integers(-50, 500), min_size=1, max_size=20)


def centroids(clusters: int, seed: int = 0) -> NDArray[np.float32]:
    points = np.random.default_rng(seed).normal(size=(clusters, 6)).astype(np.float32)
    unit: NDArray[np.float32] = points / np.linalg.norm(points, axis=1, keepdims=True)
    return unit


@given(size=st.integers(0, 1000), noisy=counts)
def test_shares_sum_to_the_size_and_follow_the_weights(size: int, noisy: list[int]) -> None:
    shares = apportion(size, noisy)
    assert int(shares.sum()) == size
    weights = consistent(noisy)
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - size * weight / sum(weights)) < 1


@given(noisy=counts)
def test_weights_are_the_counts_less_one_amount_and_keep_their_sum(noisy: list[int]) -> None:
    weights = consistent(noisy)
    assert min(weights) >= 0
    assert max(weights) > 0
    if max(noisy) <= 0:
        assert len(set(weights)) == 1
    elif sum(noisy) <= 0:
        assert weights == [max(count, 0) for count in noisy]
    else:
        scale = Fraction(sum(weights), sum(noisy))
        kept = [
            count - weight / scale for count, weight in zip(noisy, weights, strict=True) if weight
        ]
        # The same is taken from each that is left, and those that are not had no more than that.
        assert len(set(kept)) == 1
        assert kept[0] >= 0
        gone = [count for count, weight in zip(noisy, weights, strict=True) if not weight]
        assert max(gone, default=kept[0]) <= kept[0]


def test_counts_without_negative_ones_stay_in_proportion() -> None:
    assert apportion(100, [60, 0, 40]).tolist() == [60, 0, 40]


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
    # Of 60 and 40 each loses 15: 45 and 25 make the 70 that there are.
    assert consistent([-30, 60, 40]) == [0, 90, 50]
    assert apportion(70, [-30, 60, 40]).tolist() == [0, 45, 25]
    assert apportion(4, [-5, -1]).tolist() == [2, 2]


@pytest.mark.parametrize(
    ("wanted", "available", "pool"),
    [([5, 5], [10, 10], 20), ([8, 2], [4, 6], 20), ([1, 1], [0, 9], None)],
)
def test_pool_that_would_do(wanted: list[int], available: list[int], pool: int | None) -> None:
    assert pool_that_would_do(np.array(wanted), np.array(available)) == pool
