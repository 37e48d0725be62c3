"""Stage histogram: count private records by cluster, with discrete Gaussian noise. In custody."""

from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from functools import partial
from typing import Any

import torch
from palimpsest.api.task import HistogramParameters, PrivateInput, canonical_json
from palimpsest.privacy.mechanisms import DiscreteGaussian
from palimpsest.storage import NotFound

from palimpsest_stage.clustering.partition import Partition
from palimpsest_stage.dp.noise import discrete_gaussian
from palimpsest_stage.embed import ROWS, Embedder
from palimpsest_stage.errors import ChargeRefused
from palimpsest_stage.private.custody import work_prefix
from palimpsest_stage.private.fence import Fence, check_paid
from palimpsest_stage.private.records import read_texts
from palimpsest_stage.runtime import Context
from palimpsest_stage.text import unless_refused

HISTOGRAM = "histogram.json"


def run(context: Context, report: dict[str, Any]) -> None:
    """Publish histogram.json: {noisy, noiseMultiplier, clusters}."""
    parameters, charge = context.parameters(HistogramParameters), context.charge
    embedder = Embedder(context.model("embedder"))
    partition = Partition.load(context.file("centroids"), embedder.dimension)
    # What the centroids take of memory must show here, and not when a record votes.
    partition.nearest(torch.zeros(ROWS, embedder.dimension))
    # Public ground is checked; from here on the charge is at stake.
    fence = Fence(context.stores[charge.store], charge, context.attempt_number)
    fence.start(DiscreteGaussian(noiseMultiplier=parameters.noise_multiplier), parameters.restarts)

    store = context.stores[charge.store]
    kept = f"{work_prefix(charge)}{HISTOGRAM}"
    try:
        result = store.get(kept)
    except NotFound:
        if any(context.output.list(f"{context.prefix}attempts/")):
            raise ChargeRefused(
                "noisy counts were published that custody no longer keeps: others over the same "
                "votes would be a second release. To count and pay anew, create the resource under "
                "another name"
            ) from None
        fence.intent(block=0, steps=1)
        source = context.input("private", PrivateInput)
        findings: Counter[str] = Counter()
        texts = read_texts(
            context.stores[source.store], source, context.folder("private"), findings
        )
        votes = count_votes(embedder, partition, texts)
        sigma = Fraction(parameters.noise_multiplier)
        noisy = [votes[cluster] + discrete_gaussian(sigma) for cluster in range(len(partition))]
        result = canonical_json(
            {
                "noisy": noisy,
                "noiseMultiplier": parameters.noise_multiplier,
                "clusters": len(partition),
            }
        )
        report["records"] = dict(findings)
        # The first noisy counts ever kept are the only ones ever published: a retry draws no
        # second noise over the same votes.
        if not store.put_if_absent(kept, result):
            result = store.get(kept)
    else:
        check_paid(1, fence.intended_steps)
    path = context.folder("out") / HISTOGRAM
    path.write_bytes(result)
    context.publish({path.name: path})


def count_votes(embedder: Embedder, partition: Partition, texts: Iterable[str]) -> Counter[int]:
    """One vote a text for its nearest centroid; a text that cannot be embedded votes for none."""
    votes: Counter[int] = Counter()
    for indices, rows in embedder.batches(_tokens(embedder, texts)):
        # The product has the batch's fixed shape too, so a vote is its record's alone.
        nearest = partition.nearest(rows)
        votes.update(nearest[: len(indices)].tolist())
    return votes


def _tokens(embedder: Embedder, texts: Iterable[str]) -> Iterable[list[int]]:
    for text in texts:
        # Without a token there is nothing to embed.
        if ids := unless_refused(partial(embedder.tokens, text)):
            yield ids
