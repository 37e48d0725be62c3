"""Spending over time as a plot of characters. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

MIN_WIDTH = 40
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_FULL, _RESERVED = "█", "░"
_ASCII = {**dict.fromkeys(_EIGHTHS[1:], "#"), _RESERVED: ":", "│": "|", "└": "+", "─": "-"}
_AXIS = 7  # "  100% "


@dataclass(frozen=True)
class Level:
    """Shares of the limit (0 to 1) that are committed and reserved from `at` on (seconds)."""

    at: float
    committed: float
    reserved: float


def step_plot(
    levels: Sequence[Level],
    start: str,
    end: str,
    width: int,
    height: int = 8,
    ascii_only: bool = False,
) -> list[str]:
    """Lines of at most `width` characters (at least MIN_WIDTH).

    The committed share stands solid on the axis, the reserved share shaded upon it. A column shows
    the most that was given out while it lasted, so that no short reservation is lost. The top is
    the limit, or what was given out where that is more: a limit can have been lowered.
    """
    columns = max(width, MIN_WIDTH) - _AXIS - 1
    bars = _columns(levels, columns)
    top = max([1.0, *(committed + reserved for committed, reserved in bars)])
    rows = []
    for row in range(height, 0, -1):
        label = {height: top, (height + 1) // 2: top * ((height + 1) // 2) / height}.get(row)
        scale = f"{label:>6.0%}" if label is not None else " " * 6
        cells = "".join(_cell(bar, row, height, top) for bar in bars)
        rows.append(f"{scale} │{cells}")
    rows.append(" " * _AXIS + "└" + "─" * columns)
    inner = max(1, columns - len(start) - len(end))
    rows.append((" " * (_AXIS + 1) + start + " " * inner + end)[: _AXIS + 1 + columns])
    rows = [row.rstrip() for row in rows]
    return [_plain(row) for row in rows] if ascii_only else rows


def _columns(levels: Sequence[Level], columns: int) -> list[tuple[float, float]]:
    """(committed, reserved) of each column, at its highest total."""
    if not levels:
        return [(0.0, 0.0)] * columns
    first, last = levels[0].at, max(levels[-1].at, levels[0].at)
    span = last - first
    bars: list[tuple[float, float]] = []
    index = 0
    for column in range(columns):
        until = first + span * (column + 1) / columns
        best = levels[index]
        while index + 1 < len(levels) and (levels[index + 1].at < until or column == columns - 1):
            index += 1
            best = max(best, levels[index], key=lambda level: level.committed + level.reserved)
        if column == columns - 1:
            best = levels[-1]
        bars.append((best.committed, best.reserved))
    return bars


def _cell(bar: tuple[float, float], row: int, height: int, top: float) -> str:
    committed, reserved = (share / top * height for share in bar)
    filled = min(1.0, committed - (row - 1))
    if filled >= 1:
        return _FULL
    if filled > 0:
        # Nothing that was spent vanishes: the least block for the least share.
        eighths = max(1, round(filled * 8))
        if not reserved or committed + reserved < row - 0.5:
            return _EIGHTHS[eighths]
        return _RESERVED if filled < 0.5 else _FULL
    shaded = committed + reserved - (row - 1)
    # A reservation shows from its first row on, then where it fills half of one.
    return _RESERVED if reserved and (shaded >= 0.5 or (shaded > 0 and row == 1)) else " "


def _plain(row: str) -> str:
    return "".join(_ASCII.get(letter, letter) for letter in row)
