"""How many clusters a histogram of so many records bears: from public figures alone. Pure."""

from decimal import Decimal

from palimpsest.api.dataset import MOST_CLUSTERS, Resampling

# Half of the mean of a standard normal's absolute value, sqrt(2 / pi) / 2, to one digit.
_HALF_DEVIATION = Decimal("0.4")
# What a number of clusters that nobody gave may add in total variation.
NOISE_SHARE = Decimal("0.05")
# k-means needs some points a cluster, and selection some choice.
_INSTRUCTIONS_PER_CLUSTER = 10


def noise_variation(clusters: int, noise: Decimal, records: int) -> Decimal:
    """Expected total variation that noise alone adds to a histogram: 0.4 K sigma / N.

    Half the sum of K absolute normal deviates of spread sigma, over N records.
    """
    return _HALF_DEVIATION * clusters * noise / records


def clusters_within(share: Decimal, noise: Decimal, records: int) -> int:
    """The most clusters, two at least, whose noise adds at most `share` in total variation."""
    return max(2, int(share * records / (_HALF_DEVIATION * noise)))


def clusters_of(resampling: Resampling, pool: int, records: int) -> int:
    """The clusters asked for; left out, as many as noise and a pool of so many instructions bear.

    `records` is the budget's declared number, so this tells nothing of the data.
    """
    if resampling.clusters is not None:
        return resampling.clusters
    fit = clusters_within(NOISE_SHARE, Decimal(resampling.noise_multiplier), records)
    return max(min(2, pool), min(fit, pool // _INSTRUCTIONS_PER_CLUSTER, MOST_CLUSTERS))
