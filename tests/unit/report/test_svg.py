"""What the report draws: which stage reads what, and a curve with its numbers."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence

import pytest
from palimpsest.report import svg
from palimpsest.report.page import _curves

GENERATOR = ["train"]
DATASET = ["sample", "cluster", "histogram", "select", "annotate", "card"]
CUSTODY = {"private records", "train", "histogram"}


def drawn(stages: Sequence[str]) -> tuple[dict[str, tuple[float, float]], set[tuple[str, str]]]:
    """(where each box is, from which box to which an arrow leads)."""
    figure = ET.fromstring(svg.lineage(dict.fromkeys(stages, ("", ""))))
    rects = [each for each in figure.iter("rect") if each.get("class", "").startswith("box ")]
    titles = [each.text or "" for each in figure.iter("text") if each.get("class") == "box-title"]
    boxes = {
        title: (float(rect.get("x", "")), float(rect.get("y", "")))
        for title, rect in zip(titles, rects, strict=True)
    }
    wide, high = float(rects[0].get("width", "")), float(rects[0].get("height", ""))

    def at(x: float, y: float) -> str:
        (found,) = (
            title
            for title, (left, top) in boxes.items()
            if left - 2 <= x <= left + wide and top - 2 <= y <= top + high + 2
        )
        return found

    arrows = set()
    for path in figure.iter("path"):
        if "arrow" in path.get("class", ""):
            steps = re.findall(r"([MHV])([\d.]+)(?: ([\d.]+))?", path.get("d", ""))
            x, y = float(steps[0][1]), float(steps[0][2])
            begins = at(x, y)
            for way, value, _ in steps[1:]:
                x, y = (float(value), y) if way == "H" else (x, float(value))
            arrows.add((begins, at(x, y)))
    return boxes, arrows


RELEASED = {
    ("private records", "train"),
    ("private records", "histogram"),
    ("train", "sample"),
    ("sample", "cluster"),
    ("cluster", "histogram"),
    ("histogram", "select"),
    ("sample", "select"),
    ("select", "annotate"),
    ("annotate", "card"),
}


@pytest.mark.parametrize(
    ("stages", "arrows"),
    [
        (GENERATOR, {("private records", "train")}),
        ([*GENERATOR, *DATASET, "sft"], {*RELEASED, ("card", "sft")}),
        (
            [*GENERATOR, *DATASET, "reward", "rlhf"],
            {*RELEASED, ("reward", "rlhf"), ("card", "rlhf")},
        ),
        (
            [*GENERATOR, *DATASET, "reward", "dpo"],
            {*RELEASED, ("reward", "dpo"), ("card", "dpo")},
        ),
    ],
    ids=["generator", "sft", "rlhf by a trained reward", "dpo by a trained reward"],
)
def test_the_lineage_shows_each_stage_and_what_it_reads(
    stages: list[str], arrows: set[tuple[str, str]]
) -> None:
    boxes, found = drawn(stages)
    assert boxes.keys() == {"private records", *stages}
    assert found == arrows
    # Custody is the upper lane, and no box lies upon another.
    upper = min(top for _, top in boxes.values())
    assert {title for title, (_, top) in boxes.items() if top == upper} == CUSTODY & boxes.keys()
    assert len(set(boxes.values())) == len(boxes)


def labels(drawn: str) -> list[str]:
    return [each.text or "" for each in ET.fromstring(drawn).iter("text")]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ((0.0003, 0.004), {"0.0003", "0.004"}),
        ((-1.234567, 2.5), {"-1.23", "2.5"}),
        ((12.0, 1234.4), {"12", "1,234"}),
        ((1e-7, 2.5e8), {"1e-07", "2.5e+08"}),
    ],
)
def test_a_curve_says_how_low_and_how_high_it_goes(
    values: tuple[float, float], shown: set[str]
) -> None:
    assert shown <= set(labels(svg.line(list(enumerate(values, 1)), "kl", "steps", "")))


def test_a_figure_keeps_its_step_where_others_have_none() -> None:
    steps = [{"step": 1, "kl": None}, {"step": 2, "kl": 0.5}, {"step": 4, "kl": 0.25}]
    page = _curves({"steps": [*steps, {"step": 5, "kl": None}]})
    figure = ET.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    assert figure.get("aria-label") == "kl at each step"
    assert figure.findtext("title") == "kl at each step"
    assert "steps 1 to 5" in [each.text for each in figure.iter("text")]
    (curve,) = figure.iter("polyline")
    low, high = (float(point.split(",")[0]) for point in curve.get("points", "").split())
    axis = next(each for each in figure.iter("path")).get("d", "")
    left, right = float(axis[1:].split()[0]), svg.WIDTH - 10
    assert (low, high) == pytest.approx((left + (right - left) / 4, left + 3 * (right - left) / 4))
