"""python -m bench.resampling: how near resampling comes to a mixture that is known; a table.

docs/benchmarks.md. The distances are of the selected to the real weights; the floor is what is left
when nothing but the draw of the records and the noise stands between them.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from statistics import mean, stdev

from palimpsest.privacy.clusters import NOISE_SHARE, clusters_within
from unit.stage.resampled import Resampled

from bench.page import BENCHMARKS, renew

SIGMA, POOL, SIZE, COMPONENTS, ROUNDS = 10, 100_000, 5_000, 20, 50
CASES = tuple((records, k) for records in (15_000, 50_000, 180_000) for k in (50, 150, 500, 1000))
GOAL = 1.2


def row(records: int, clusters: int) -> list[str]:
    """One line of the table."""
    case = Resampled.of(records, clusters, POOL, COMPONENTS)
    floor = case.floor(SIGMA)
    after = [case.after(case.clustered.noisy(SIGMA), SIZE, seed) for seed in range(ROUNDS)]
    error = stdev(after) / ROUNDS**0.5
    ratio = mean(after) / floor
    fits = clusters <= clusters_within(NOISE_SHARE, Decimal(SIGMA), records)
    if fits:
        verdict = "yes" if ratio <= GOAL else "no"
    else:
        verdict = "more clusters than are advised" + ("; yes" if ratio <= GOAL else "")
    return [
        f"{records:,}",
        f"{clusters:,}",
        f"{case.before:.4f}",
        f"{mean(after):.4f} ± {error:.4f}",
        f"{floor:.4f}",
        f"{ratio:.2f}",
        f"{case.after(case.clustered.votes.tolist(), SIZE):.4f}",
        f"{case.after(case.clustered.permuted(), SIZE):.4f}",
        verdict,
    ]


def section(rows: list[list[str]]) -> str:
    """In Markdown."""
    head = [
        "records",
        "clusters",
        "pool",
        "selected",
        "floor",
        "selected / floor",
        "exact histogram",
        "permuted histogram",
        f"within {GOAL} floors",
    ]
    lines = [
        "## Resampling a known mixture",
        "",
        f"Total-variation distance to the real weights of {COMPONENTS} components (Zipf, exponent "
        f"0.8): of a pool of {POOL:,} with the same weights in another order, and of {SIZE:,} "
        f"selected from it by a histogram with noise {SIGMA} (mean of {ROUNDS} draws and its "
        "standard error), by the exact one, and by one whose counts are permuted. The floor is "
        "what the records' own draw and the noise leave. `make resampling`.",
        "",
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
        *(f"| {' | '.join(cells)} |" for cells in rows),
    ]
    return "\n".join(lines)


def main() -> int:
    """Renews the page's table; status 1 if an advised number of clusters misses the goal."""
    rows = []
    for records, clusters in CASES:
        rows.append(row(records, clusters))
        print(" | ".join(rows[-1]), flush=True)
    renew(BENCHMARKS, "resampling", section(rows))
    return int(any(cells[-1] == "no" for cells in rows))


if __name__ == "__main__":
    sys.exit(main())
