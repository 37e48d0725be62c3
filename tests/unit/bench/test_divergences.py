from __future__ import annotations

import numpy as np
import pytest
from bench.divergences import Features, area, frechet, mauve


def blobs(count: int, seed: int, shift: float = 0.0) -> Features:
    """A normal cloud beside the origin, so that directions differ too."""
    drawn = np.random.default_rng(seed).normal(size=(count, 8)) + 2.0
    drawn[:, 0] += shift
    return drawn.astype(np.float32)


def test_mauve_is_high_for_two_draws_of_one_distribution_and_falls_with_the_distance() -> None:
    here = blobs(600, seed=1)
    alike, near, far = (mauve(here, blobs(600, 2, shift), 0) for shift in (0.0, 2.0, 12.0))
    assert alike > 0.9
    assert alike > near > far
    assert far < 0.05


def test_the_area_is_one_for_equal_histograms_and_none_for_disjoint_ones() -> None:
    half = np.array([0.5, 0.5, 0.0, 0.0])
    assert area(half, half) == pytest.approx(1, abs=1e-9)
    assert area(half, half[::-1]) < 0.05


def test_the_area_is_that_of_the_authors_program() -> None:
    # mauve-text 0.4.0, its functions of two histograms, with 25 mixtures and a scaling of 5.
    p, q = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.2, 0.3, 0.4])
    assert area(p, q) == pytest.approx(0.6538536633533253, abs=1e-9)


def test_frechet_is_that_of_normals_whose_distance_is_known() -> None:
    rng = np.random.default_rng(3)
    scales = np.array([1.0, 2.0, 0.5, 3.0])
    one = rng.normal(size=(200_000, 4)) * scales
    other = rng.normal(size=(200_000, 4)) * (scales + 1) + 1
    # Of independent coordinates: squares of the means' and of the deviations' differences.
    assert frechet(one.astype(np.float32), other.astype(np.float32)) == pytest.approx(8, rel=0.02)
    assert frechet(one.astype(np.float32), one.astype(np.float32)) == pytest.approx(0, abs=1e-6)
