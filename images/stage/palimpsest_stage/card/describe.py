"""The card as data: computed from synthetic rows, released counts and manifests alone."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from math import log
from statistics import quantiles
from typing import Any

from palimpsest.api.task import CardParameters

from palimpsest_stage.lineage import Made
from palimpsest_stage.select import consistent

LONGEST_N_GRAM, N_GRAMS = 3, 10
EXAMPLES = 5
# Rows whose n-grams are counted: they come in random order, and more would take memory alone.
COUNTED = 100_000
# Parameters that the card states elsewhere, or that say nothing about the data.
_UNSAID = {"stage", "name", "guarantee", "audit", "restarts", "microBatchSize", "blockSteps"}


def describe(
    rows: list[dict[str, Any]],
    parameters: CardParameters,
    extra: dict[str, Any],
    made: list[Made],
) -> dict[str, Any]:
    """What card.json holds; `extra` has clusters.json and histogram.json where there are any."""
    instructions = [row["instruction"] for row in rows]
    texts = {"instruction": instructions}
    counted = [words(text) for text in instructions[:COUNTED]]
    answers = [row["answer"] for row in rows if row.get("answer")]
    if answers:
        texts["answer"] = answers
    return {
        "name": parameters.name,
        "guarantee": parameters.guarantee,
        "rows": len(rows),
        "fields": sorted({key for row in rows for key in row}),
        "duplicates": len(instructions) - len(set(instructions)),
        "words": {name: _lengths(some) for name, some in texts.items()},
        "nGrams": {str(n): _most_common(counted, n) for n in range(1, LONGEST_N_GRAM + 1)},
        "resampling": _resampling(rows, extra["clusters"], extra["histogram"])
        if extra.keys() >= {"clusters", "histogram"}
        else None,
        "examples": [
            {name: row[name] for name in texts if row.get(name)} for row in rows[:EXAMPLES]
        ],
        "stages": [_stage(one) for one in made],
    }


def words(text: str) -> list[str]:
    """Lower-case words, without punctuation."""
    return re.findall(r"\w+(?:['\u2019]\w+)*", text.lower())


def _stage(made: Made) -> dict[str, Any]:
    told = made.parameters.model_dump(by_alias=True, mode="json", exclude_none=True)
    return {
        "stage": made.parameters.stage,
        "settings": {name: value for name, value in told.items() if name not in _UNSAID},
        "manifests": [{"uri": each.uri, "digest": each.digest} for each in made.artifacts],
        "receipts": made.receipts,
    }


def _resampling(
    rows: list[dict[str, Any]], clusters: dict[str, Any], histogram: dict[str, Any]
) -> dict[str, Any]:
    noisy = histogram["noisy"]
    chosen = Counter(row["cluster"] for row in rows if "cluster" in row)
    return {
        "clusters": histogram["clusters"],
        "noiseMultiplier": histogram["noiseMultiplier"],
        "noisyCounts": noisy,
        "shares": {
            "private": _shares(consistent(noisy)),
            "pool": _shares(clusters["poolSizes"]),
            "dataset": _shares([chosen[cluster] for cluster in range(len(noisy))]),
        },
        "places": clusters.get("places", []),
        "words": _typical(rows),
    }


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts) or 1
    return [round(count / total, 6) for count in counts]


def _typical(rows: list[dict[str, Any]]) -> dict[str, str]:
    """A word for each cluster: the one that its rows hold more often than all rows promise.

    By its part of the likelihood ratio (Dunning 1993); of those in one row only none is typical.
    """
    everywhere: Counter[str] = Counter()
    within: dict[int, Counter[str]] = {}
    sizes: Counter[int] = Counter()
    for row in rows[:COUNTED]:
        if "cluster" not in row:
            continue
        found = set(words(row["instruction"]))
        everywhere.update(found)
        within.setdefault(row["cluster"], Counter()).update(found)
        sizes[row["cluster"]] += 1
    total = sizes.total()
    typical = {}
    for cluster, counts in sorted(within.items()):
        scores = {
            word: count * log(count * total / (sizes[cluster] * everywhere[word]))
            for word, count in counts.items()
            if count > 1
        }
        if scores:
            typical[str(cluster)] = max(sorted(scores), key=lambda word: scores[word])
    return typical


def _lengths(texts: list[str]) -> dict[str, Any]:
    """Of texts in words: the quartiles, the mean, and how many texts have each length."""
    counts = Counter(len(text.split()) for text in texts)
    lengths = sorted(counts.elements()) or [0]
    low, middle, high = (
        quantiles(lengths, n=4, method="inclusive") if len(lengths) > 1 else (lengths * 3)
    )
    return {
        "min": lengths[0],
        "quartiles": [low, middle, high],
        "mean": round(sum(lengths) / len(lengths), 2),
        "max": lengths[-1],
        "counts": [[length, counts[length]] for length in sorted(counts)],
    }


def _most_common(texts: list[list[str]], n: int) -> list[list[Any]]:
    """N-grams with the number of texts, by their words, that hold them."""
    counts = Counter(each for text in texts for each in set(_n_grams(text, n)))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [[n_gram, count] for n_gram, count in ordered[:N_GRAMS]]


def _n_grams(some: list[str], n: int) -> Iterable[str]:
    return map(" ".join, zip(*(some[start:] for start in range(n)), strict=False))
