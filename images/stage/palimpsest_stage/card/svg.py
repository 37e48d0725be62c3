"""Parts of a chart that stands alone: it is read in light and dark without the page around it."""

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 720.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 12.0, 34.0, 42.0

_STYLE = """
svg { background: #fbfaf7; font: 12px system-ui, "DejaVu Sans", sans-serif; }
text { fill: #22201c; } .soft { fill: #6d675d; } .rule { stroke: #ddd7cb; fill: none; }
.one { fill: #2f6f6a; } .two { fill: #c98a3b; } .three { fill: #8c877c; }
path.one, path.two, path.three { fill: none; stroke-width: 1.6; }
path.one { stroke: #2f6f6a; } path.two { stroke: #c98a3b; }
path.three { stroke: #8c877c; stroke-dasharray: 4 3; }
circle { stroke: #fbfaf7; fill-opacity: .8; }
@media (prefers-color-scheme: dark) {
  svg { background: #171613; } text { fill: #ece7dc; } .soft { fill: #a49c8d; }
  .rule { stroke: #3a362f; } .one { fill: #5fb3a8; } .two { fill: #dea45a; }
  .three { fill: #8b8578; } path.one { stroke: #5fb3a8; } path.two { stroke: #dea45a; }
  path.three { stroke: #8b8578; } circle { stroke: #171613; }
}
"""


def figure(title: str, body: Sequence[str], height: float = HEIGHT) -> str:
    """A whole SVG file."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {height:.0f}" '
        f'width="{WIDTH:.0f}" height="{height:.0f}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>{''.join(body)}</svg>\n"
    )


def text(x: float, y: float, words: str, style: str = "", anchor: str = "start") -> str:
    """Words at a place."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )


def key(entries: Sequence[tuple[str, str]]) -> list[str]:
    """What the colours mean, above the chart: (style, words)."""
    body, x = [], LEFT
    for style, words in entries:
        body.append(f'<rect x="{x:.1f}" y="10" width="10" height="10" class="{style}"/>')
        body.append(text(x + 15, 19, words, "soft"))
        x += 34 + 6.6 * len(words)
    return body


def axes(
    across: str, up: Sequence[tuple[float, str]], along: Sequence[tuple[float, str]]
) -> list[str]:
    """Two rules with labels: `up` and `along` are (part of the axis, label)."""
    floor, ceiling = HEIGHT - BOTTOM, TOP
    body = [f'<path class="rule" d="M{LEFT} {ceiling}V{floor}H{WIDTH - RIGHT}"/>']
    for part, label in up:
        y = floor - part * (floor - ceiling)
        body.append(f'<path class="rule" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        body.append(text(LEFT - 6, y + 4, label, "soft", "end"))
    for part, label in along:
        x = LEFT + part * (WIDTH - LEFT - RIGHT)
        body.append(text(x, floor + 16, label, "soft", "middle"))
    body.append(text(WIDTH - RIGHT, HEIGHT - 8, across, "soft", "end"))
    return body
