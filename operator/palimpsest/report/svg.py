"""Charts as inline SVG; colours come from the page's style sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from palimpsest.api.task import PRIVATE_STAGES

WIDTH = 640


@dataclass(frozen=True)
class Box:
    """A stage in the lineage: its place, its lines, whether it may read private records."""

    column: float
    lane: int
    title: str
    lines: tuple[str, ...]
    style: str


def _text(x: float, y: float, words: str, style: str = "", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )


def _figure(width: float, height: float, body: Sequence[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(body)}</svg>"
    )


_PRIVATE = ("records", *PRIVATE_STAGES)
_ORDER = ("records", "train", "sample", "cluster", "histogram", "select", "annotate", "card")
_ALIGNED = ("reward", "sft", "dpo", "rlhf")
_TITLES = {"records": "private records"}
_STEP, _WIDE, _HIGH, _TOPS = 134.0, 120.0, 62.0, (44.0, 196.0)


def lineage(details: Mapping[str, tuple[str, ...]]) -> str:
    """Which stage reads what; `details` maps each stage there is to the lines under its name."""
    names = [name for name in (*_ORDER, *_ALIGNED) if name in details or name == "records"]
    boxes = {
        name: Box(
            column,
            0 if name in _PRIVATE else 1,
            _TITLES.get(name, name),
            details.get(name, ()),
            "private" if name in _PRIVATE else "public",
        )
        for column, name in enumerate(names)
    }
    total = len(names) * _STEP + 20
    body = [
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" class="tip"/></marker></defs>',
        f'<rect x="4" y="8" width="{total - 8:.0f}" height="118" rx="10" class="lane private"/>',
        _text(16, 28, "custodian\u2019s namespace: may read private records", "lane-name"),
    ]
    height = 132.0
    if any(box.lane for box in boxes.values()):
        height = 286.0
        body += [
            f'<rect x="4" y="160" width="{total - 8:.0f}" height="118" rx="10" class="lane"/>',
            _text(16, 180, "tenant\u2019s namespace: reads releases only", "lane-name"),
        ]
    for start, end, style in _edges(names):
        body += _arrow(boxes[start], boxes[end], style)
    for box in boxes.values():
        x, y = _left(box), _TOPS[box.lane]
        body.append(
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{_WIDE:.0f}" height="{_HIGH:.0f}" rx="7" '
            f'class="box {box.style}"/>'
        )
        body.append(_text(x + _WIDE / 2, y + 20, box.title, "box-title", "middle"))
        for index, line in enumerate(box.lines[:2]):
            body.append(_text(x + _WIDE / 2, y + 37 + 14 * index, line, "note", "middle"))
    return _figure(total, height, body, "Lineage of the pipeline")


def _edges(names: Sequence[str]) -> list[tuple[str, str, str]]:
    """What reads what among the stages there are: (from, to, style)."""
    # A reward model learns from public pairs, of no stage's making.
    aside = ("cluster", "reward")
    public = [name for name in names if name not in _PRIVATE and name not in aside]
    edges = [
        ("records", "train", "secret"),
        ("records", "histogram", "secret"),
        ("train", "sample", "release"),
        ("sample", "cluster", ""),
        ("cluster", "histogram", ""),
        ("histogram", "select", "release"),
        *((start, end, "") for start, end in pairwise(public)),
        *(("reward", end, "") for end in ("dpo", "rlhf")),
    ]
    return [edge for edge in edges if edge[0] in names and edge[1] in names]


def _left(box: Box) -> float:
    return 14 + box.column * _STEP


def _arrow(start: Box, end: Box, style: str) -> list[str]:
    """Straight to a neighbour, below what stands between, or by an elbow to the other lane."""
    middle, goal = _left(start) + _WIDE / 2, _left(end) + _WIDE / 2
    top, foot = _TOPS[start.lane], _TOPS[start.lane] + _HIGH
    words: list[str] = []
    if start.lane == end.lane and end.column == start.column + 1:
        path = f"M{_left(start) + _WIDE:.0f} {top + _HIGH / 2:.0f}H{_left(end) - 2:.0f}"
    elif start.lane == end.lane:
        low, reach = foot + 11, goal - 26
        path = f"M{middle:.0f} {foot:.0f}V{low:.0f}H{reach:.0f}V{foot + 2:.0f}"
    elif start.lane == 0:
        x, half = middle + 34, 152
        path = f"M{x:.0f} {foot:.0f}V{half}H{goal:.0f}V{_TOPS[1] - 2:.0f}"
        words.append(_text((x + goal) / 2, half - 5, "DP release", "note", "middle"))
    else:
        path = f"M{middle:.0f} {top:.0f}V152H{goal - 10:.0f}V{_TOPS[0] + _HIGH + 2:.0f}"
    return [f'<path d="{path}" class="arrow {style}" marker-end="url(#tip)"/>', *words]


def shares(parts: Sequence[tuple[str, float, str]]) -> str:
    """One bar of the whole gate: (label, part of one, style)."""
    body, x, key = [], 0.0, 0.0
    for label, part, style in parts:
        wide = max(0.0, min(1.0, part)) * WIDTH
        body.append(f'<rect x="{x:.1f}" y="0" width="{wide:.1f}" height="30" class="{style}"/>')
        body.append(f'<rect x="{key:.0f}" y="44" width="10" height="10" class="{style}"/>')
        words = f"{label} {part:.1%}"
        body.append(_text(key + 15, 53, words, "note"))
        x, key = x + wide, key + 30 + 6.6 * len(words)
    return _figure(WIDTH, 60, body, "Shares of the gate")


def bars(rows: Sequence[tuple[str, float, str]], unit: str, top: float | None = None) -> str:
    """Horizontal bars: (label, value, style); `top` is the full width's value."""
    limit = top or max((value for _, value, _ in rows), default=1.0) or 1.0
    body = []
    for index, (label, value, style) in enumerate(rows):
        y = 30 * index
        wide = max(1.0, value / limit * (WIDTH - 360))
        shown = f"{value:.0%}" if unit == "%" else f"{value:.2f} {unit}".strip()
        body.append(_text(0, y + 17, label, "axis"))
        body.append(
            f'<rect x="215" y="{y + 4}" width="{wide:.1f}" height="18" rx="3" class="{style}"/>'
        )
        body.append(_text(222 + wide, y + 18, shown, "axis strong"))
    return _figure(WIDTH, 30 * len(rows), body, "Comparison")


def histogram(series: Sequence[tuple[str, Sequence[float], str]], order: Sequence[int]) -> str:
    """Columns by cluster, one narrow column a series: (label, counts, style), each normalised."""
    high, base = 170.0, 200.0
    parts = [
        (label, [values[i] / (sum(values) or 1.0) for i in order], style)
        for label, values, style in series
    ]
    limit = max((value for _, values, _ in parts for value in values), default=1.0) or 1.0
    slot = WIDTH / max(1, len(order))
    narrow = slot * 0.8 / max(1, len(parts))
    body = [f'<path d="M0 {base}H{WIDTH}" class="rule"/>']
    for column, (_, values, style) in enumerate(parts):
        for index, value in enumerate(values):
            tall = max(0.0, value) / limit * high
            body.append(
                f'<rect x="{slot * index + narrow * column:.1f}" y="{base - tall:.1f}" '
                f'width="{narrow:.1f}" height="{tall:.1f}" class="{style}"/>'
            )
    x = 0.0
    for label, _, style in parts:
        body.append(f'<rect x="{x:.0f}" y="4" width="10" height="10" class="{style}"/>')
        body.append(_text(x + 15, 13, label, "note"))
        x += 34 + 6.4 * len(label)
    body.append(_text(0, base + 16, "clusters, by their share of held-out questions", "note"))
    return _figure(WIDTH, base + 22, body, "Share of each cluster")


def line(points: Sequence[tuple[float, float | None]], title: str, across: str, up: str) -> str:
    """A curve through (step, value); a step without a value keeps its place on the axis."""
    high, left = 170.0, 60.0
    places = [place for place, _ in points]
    values = [value for _, value in points if value is not None]
    first, last = min(places), max(places)
    low, top = min(values), max(values)
    span, step = (top - low) or 1.0, (WIDTH - left - 10) / ((last - first) or 1.0)
    drawn = " ".join(
        f"{left + step * (place - first):.1f},{12 + (top - value) / span * high:.1f}"
        for place, value in points
        if value is not None
    )
    body = [
        f'<path d="M{left} 12V{high + 12}H{WIDTH}" class="rule" fill="none"/>',
        _text(left - 6, 18, _label(top), "note", "end"),
        _text(left - 6, high + 14, _label(low), "note", "end"),
        _text(left + 6, 20, up, "note"),
        _text(WIDTH, high + 30, f"{across} {first:g} to {last:g}", "note", "end"),
        f'<polyline points="{drawn}" class="curve"/>',
    ]
    return _figure(WIDTH, high + 36, body, title)


def _label(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1_000_000 else f"{value:.3g}"
