"""How many clusters a histogram bears."""

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from palimpsest.api.dataset import MOST_CLUSTERS, Resampling
from palimpsest.privacy.clusters import (
    NOISE_SHARE,
    clusters_of,
    clusters_within,
    noise_variation,
)


def resampling(**fields: Any) -> Resampling:
    embedder = {"uri": "s3://models/encoder/", "digest": "sha256:" + "0" * 64}
    return Resampling.model_validate({"size": 2, "embedder": embedder, **fields})


def test_variation_is_what_normal_noise_adds() -> None:
    clusters, noise, records, draws = 500, 10, 100_000, 400
    drawn = np.random.default_rng(0).normal(scale=noise, size=(draws, clusters))
    seen = np.abs(drawn).sum(1) / 2 / records
    # The constant is given to one digit: 0.4 for 0.3989.
    told = float(noise_variation(clusters, Decimal(noise), records))
    assert told == pytest.approx(seen.mean(), rel=0.01)


@given(st.integers(1, 10**8), st.decimals("0.1", "1000", places=2))
def test_one_cluster_more_than_fit_would_be_too_many(records: int, noise: Decimal) -> None:
    clusters = clusters_within(NOISE_SHARE, noise, records)
    assert noise_variation(clusters + 1, noise, records) > NOISE_SHARE
    assert clusters == 2 or noise_variation(clusters, noise, records) <= NOISE_SHARE


@pytest.mark.parametrize(
    ("pool", "records", "clusters"),
    [
        (1_000_000, 180_000, 2250),
        (3000, 15_000, 187),
        (300, 15_000, 30),
        (5, 15_000, 2),
        (1, 15_000, 1),
        (10_000_000, 10**9, MOST_CLUSTERS),
        (3000, 10, 2),
    ],
)
def test_left_out_they_follow_from_records_noise_and_pool(
    pool: int, records: int, clusters: int
) -> None:
    assert clusters_of(resampling(), pool, records) == clusters


def test_given_they_are_taken_as_they_are() -> None:
    assert clusters_of(resampling(clusters=7), 10, 10) == 7
