"""The card's plots: of what card.json says, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import sqrt
from typing import Any

from palimpsest_stage.card.svg import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    axes,
    figure,
    key,
    text,
)

# Words on the map: more hide one another.
_NAMED = 24
# A cluster's share of the data set by its share of the pool, beyond which its colour says so.
_SHIFTED = 1.25
_MAP_HEIGHT = 480.0


@dataclass(frozen=True)
class Plot:
    """A picture, and what it shows in words."""

    svg: str
    caption: str


def plots(card: dict[str, Any]) -> dict[str, Plot]:
    """By the name of the file."""
    found = {
        "lengths.svg": Plot(
            _lengths(card["words"]), "How many rows have how many words; longer ones at the right."
        )
    }
    resampling = card["resampling"]
    if resampling is None:
        return found
    found["clusters.svg"] = Plot(
        _clusters(resampling["shares"]),
        "Share of each cluster, the largest first: of the private records by their noisy "
        "histogram, of the pool, and of this data set.",
    )
    if resampling["places"]:
        found["map.svg"] = Plot(
            _map(resampling),
            "The clusters' centroids along the two main directions of the pool. An area is a "
            "share of this data set; the colour says whether resampling raised or lowered it; a "
            "word is the one that is most typical of its cluster.",
        )
    return found


def _lengths(words: dict[str, Any]) -> str:
    # The longest hundredth would press the rest together: it is one last column.
    limit = 1 + max(_percentile(each["counts"], 0.99) for each in words.values())
    columns = []
    for each in words.values():
        counts = [0] * (limit + 1)
        for length, count in each["counts"]:
            counts[min(length, limit)] += count
        columns.append(counts)
    top = max(max(counts) for counts in columns) or 1
    slot = (WIDTH - LEFT - RIGHT) / (limit + 1)
    body = axes(
        "words",
        [(1, f"{top:,}"), (0.5, f"{top / 2:,.0f}")],
        [(length / (limit + 1), f"{length}") for length in _ticks(limit)],
    )
    styles = ("one", "two")
    for number, counts in enumerate(columns):
        narrow = slot * 0.8 / len(columns)
        for length, count in enumerate(counts):
            tall = count / top * (HEIGHT - TOP - BOTTOM)
            x = LEFT + slot * length + narrow * number
            body.append(
                f'<rect class="{styles[number]}" x="{x:.1f}" y="{HEIGHT - BOTTOM - tall:.1f}" '
                f'width="{narrow:.1f}" height="{tall:.1f}"/>'
            )
    body += key(list(zip(styles, words, strict=False)))
    return figure("Words", body)


def _clusters(shares: dict[str, list[float]]) -> str:
    order = sorted(range(len(shares["private"])), key=lambda c: -shares["private"][c])
    top = max(max(some) for some in shares.values()) or 1.0
    body = axes(
        f"{len(order):,} clusters",
        [(1, f"{top:.1%}"), (0.5, f"{top / 2:.1%}")],
        [],
    )
    named = (("three", "pool"), ("two", "private"), ("one", "dataset"))
    for style, name in named:
        body.append(_steps([shares[name][cluster] / top for cluster in order], style))
    said = {"private": "private records, noisy", "pool": "pool", "dataset": "this data set"}
    body += key([(style, said[name]) for style, name in named])
    return figure("Share of each cluster", body)


def _steps(values: Sequence[float], style: str) -> str:
    floor, wide = HEIGHT - BOTTOM, WIDTH - LEFT - RIGHT
    path = "".join(
        f"{'V' if index else f'M{LEFT} '}{floor - value * (floor - TOP):.1f}"
        f"H{LEFT + wide * (index + 1) / len(values):.1f}"
        for index, value in enumerate(values)
    )
    return f'<path class="{style}" d="{path}"/>'


def _map(resampling: dict[str, Any]) -> str:
    places, shares = resampling["places"], resampling["shares"]
    xs, ys = ([place[axis] for place in places] for axis in (0, 1))
    largest = max(shares["dataset"]) or 1.0
    body, words = [], []
    drawn = sorted(range(len(places)), key=lambda c: -shares["dataset"][c])
    for rank, cluster in enumerate(drawn):
        x = 40 + (WIDTH - 80) * _part(xs, xs[cluster])
        y = 60 + (_MAP_HEIGHT - 100) * (1 - _part(ys, ys[cluster]))
        share, before = shares["dataset"][cluster], shares["pool"][cluster]
        radius = max(1.5, 26 * sqrt(share / largest))
        word = resampling["words"].get(str(cluster), "")
        told = f"cluster {cluster} {word}: {share:.2%} of this data set, {before:.2%} of the pool"
        body.append(
            f'<circle class="{_shift(share, before)}" cx="{x:.1f}" cy="{y:.1f}" '
            f'r="{radius:.1f}"><title>{escape(told)}</title></circle>'
        )
        if word and rank < _NAMED:
            words.append(text(x, y + 4, word, "", "middle"))
    entries = [("one", "raised"), ("two", "lowered"), ("three", "about as in the pool")]
    return figure("Map of the clusters", [*key(entries), *body, *words], _MAP_HEIGHT)


def _shift(share: float, before: float) -> str:
    if share > before * _SHIFTED:
        return "one"
    return "two" if share * _SHIFTED < before else "three"


def _part(values: Sequence[float], value: float) -> float:
    low, high = min(values), max(values)
    return (value - low) / (high - low) if high > low else 0.5


def _percentile(counts: Sequence[Sequence[int]], share: float) -> int:
    wanted, so_far = share * sum(count for _, count in counts), 0
    for length, count in counts:
        so_far += count
        if so_far >= wanted:
            return length
    return 0


def _ticks(limit: int) -> range:
    return range(0, limit + 1, max(1, -(-limit // 10)))
