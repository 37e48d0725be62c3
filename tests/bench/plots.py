"""Plots of the handbook's pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import matplotlib as mpl
from matplotlib.figure import Figure

# Readable on a light page and on a dark one.
INK, MARK = "#8c877c", "#2f8f86"


def dots(path: Path, across: str, rows: Mapping[str, Sequence[float]]) -> None:
    """A line for each row, from above: its values as dots, their mean as a stroke.

    The same values give the same file.
    """
    settings = {
        "svg.hashsalt": "palimpsest",
        "svg.fonttype": "none",
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
    }
    with mpl.rc_context(settings):
        figure = Figure(figsize=(7.2, 0.6 + 0.42 * len(rows)), layout="constrained")
        plot = figure.subplots()
        for place, values in enumerate(rows.values()):
            plot.plot(values, [place] * len(values), "o", color=MARK, alpha=0.7)
            plot.plot([fmean(values)], [place], "|", color=INK, markersize=18)
        plot.set_yticks(range(len(rows)), list(rows))
        plot.invert_yaxis()
        plot.set_xlabel(across)
        plot.grid(axis="x", color=INK, alpha=0.25)
        plot.spines[["top", "right", "left"]].set_visible(False)
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})
