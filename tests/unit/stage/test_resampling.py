"""What resampling is for: the selected have the private records' mixture, the pool had not."""

from decimal import Decimal
from statistics import mean

import pytest
from palimpsest.privacy.clusters import NOISE_SHARE, clusters_within
from unit.stage.resampled import Resampled

RECORDS, SIGMA, SIZE, ROUNDS = 15_000, 10, 2_000, 25


@pytest.fixture(scope="module")
def resampled() -> Resampled:
    clusters = clusters_within(NOISE_SHARE, Decimal(SIGMA), RECORDS)
    return Resampled.of(RECORDS, clusters, pool=40_000)


def test_the_selected_are_as_near_to_the_records_as_the_noise_allows(
    resampled: Resampled,
) -> None:
    floor = resampled.floor(SIGMA)
    after = mean(resampled.after(resampled.clustered.noisy(SIGMA), SIZE) for _ in range(ROUNDS))
    # The records are drawn once, the noise in every round: the mean lies at 1.05 floors, six of its
    # standard errors below the bound (a false alarm in 10^9 runs).
    assert after <= 1.2 * floor
    assert resampled.before > 10 * floor


def test_the_exact_histogram_does_better_and_a_permuted_one_does_not_help(
    resampled: Resampled,
) -> None:
    exact = resampled.after(resampled.clustered.votes.tolist(), SIZE)
    assert exact <= 1.2 * resampled.floor(0)
    assert resampled.after(resampled.clustered.permuted(), SIZE) > resampled.before
