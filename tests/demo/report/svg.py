"""Charts as inline SVG; colours come from the page's style sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

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


def lineage(details: Mapping[str, tuple[str, ...]]) -> str:
    """Which stage reads what; `details` maps a stage to the lines under its name."""
    step, wide, high, tops = 134.0, 120.0, 62.0, (44.0, 196.0)
    places = [
        ("records", 0.0, 0, "private"),
        ("train", 1.0, 0, "private"),
        ("sample", 2.0, 1, "public"),
        ("cluster", 3.0, 1, "public"),
        ("histogram", 4.0, 0, "private"),
        ("select", 5.0, 1, "public"),
        ("annotate", 6.0, 1, "public"),
        ("card", 7.0, 1, "public"),
        ("sft", 8.0, 1, "public"),
    ]
    titles = {"records": "private records"}
    boxes = {
        name: Box(column, lane, titles.get(name, name), details.get(name, ()), style)
        for name, column, lane, style in places
    }
    total = 9 * step + 20
    body = [
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" class="tip"/></marker></defs>',
        f'<rect x="4" y="8" width="{total - 8:.0f}" height="118" rx="10" class="lane private"/>',
        f'<rect x="4" y="160" width="{total - 8:.0f}" height="118" rx="10" class="lane"/>',
        _text(16, 28, "custodian\u2019s namespace: may read private records", "lane-name"),
        _text(16, 180, "tenant\u2019s namespace: reads releases only", "lane-name"),
    ]

    def left(name: str) -> float:
        return 14 + boxes[name].column * step

    def middle(name: str) -> float:
        return left(name) + wide / 2

    def top(name: str) -> float:
        return tops[boxes[name].lane]

    def arrow(path: str, style: str = "") -> None:
        body.append(f'<path d="{path}" class="arrow {style}" marker-end="url(#tip)"/>')

    def across(start: str, end: str, style: str = "") -> None:
        y = top(start) + high / 2
        arrow(f"M{left(start) + wide:.0f} {y:.0f}H{left(end) - 2:.0f}", style)

    across("records", "train", "secret")
    for start, end in (
        ("sample", "cluster"),
        ("select", "annotate"),
        ("annotate", "card"),
        ("card", "sft"),
    ):
        across(start, end)
    y = top("records") + high + 12
    foot, reach = top("records") + high, middle("histogram") - 26
    arrow(f"M{middle('records'):.0f} {foot:.0f}V{y:.0f}H{reach:.0f}V{foot + 2:.0f}", "secret")
    for start, end, shift in (
        ("train", "sample", 0.0),
        ("cluster", "histogram", -10.0),
        ("histogram", "select", 0.0),
    ):
        down = boxes[start].lane == 0
        begin = top(start) + (high if down else 0)
        finish = top(end) + (-2 if down else high + 2)
        half = 160.0 - 8
        x = middle(start) + (34 if down else 0)
        arrow(
            f"M{x:.0f} {begin:.0f}V{half:.0f}H{middle(end) + shift:.0f}V{finish:.0f}",
            "release" if down else "",
        )
        if down:
            body.append(_text((x + middle(end)) / 2, half - 5, "DP release", "note", "middle"))
    low = top("sample") + high + 10
    arrow(
        f"M{middle('sample'):.0f} {top('sample') + high:.0f}V{low:.0f}H{middle('select'):.0f}"
        f"V{top('select') + high + 2:.0f}"
    )
    for name, box in boxes.items():
        x, y = left(name), top(name)
        body.append(
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{wide:.0f}" height="{high:.0f}" rx="7" '
            f'class="box {box.style}"/>'
        )
        body.append(_text(x + wide / 2, y + 20, box.title, "box-title", "middle"))
        for index, line in enumerate(box.lines[:2]):
            body.append(_text(x + wide / 2, y + 37 + 14 * index, line, "note", "middle"))
    return _figure(total, 286, body, "Lineage of the pipeline")


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


def line(values: Sequence[float], across: str, up: str) -> str:
    """A curve over 1, 2, 3, ..."""
    high, left = 170.0, 44.0
    low, top = min(values), max(values)
    span = (top - low) or 1.0
    step = (WIDTH - left - 10) / max(1, len(values) - 1)
    points = " ".join(
        f"{left + step * index:.1f},{12 + (top - value) / span * high:.1f}"
        for index, value in enumerate(values)
    )
    body = [
        f'<path d="M{left} 12V{high + 12}H{WIDTH}" class="rule" fill="none"/>',
        _text(left - 6, 18, f"{top:.2f}", "note", "end"),
        _text(left - 6, high + 14, f"{low:.2f}", "note", "end"),
        _text(left + 6, 20, up, "note"),
        _text(WIDTH, high + 30, across, "note", "end"),
        f'<polyline points="{points}" class="curve"/>',
    ]
    return _figure(WIDTH, high + 36, body, up)
