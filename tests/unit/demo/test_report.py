"""The report is one file that needs no network and lets no artifact's text become markup."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest
from demo import page
from palimpsest.report import svg


def test_page_is_self_contained(summary: dict[str, Any]) -> None:
    html = page.render(summary)
    for forbidden in ("http://", "https://", "src=", "@import", "url(http", "<script"):
        assert forbidden not in html


def test_text_from_artifacts_is_escaped(summary: dict[str, Any]) -> None:
    summary["quality"]["answers"][0]["after"] = "<img onerror=alert(1)>"
    html = page.render(summary)
    assert "<img" not in html
    assert "&lt;img onerror=alert(1)&gt;" in html


def test_figures_of_the_summary_are_shown(summary: dict[str, Any]) -> None:
    html = page.render(summary)
    for shown in (
        "5.53 \u2192 3.80",
        "0.24 \u2192 0.07",
        "67.0% of the gate",
        "at most 1.74 is left",
        "a win rate of 0.62, between 0.50 and 0.75 at 95% confidence",
    ):
        assert shown in html


@pytest.mark.parametrize(
    "drawn",
    [
        svg.lineage({"train": ("67%", "290 s")}),
        svg.shares([("train", 0.67, "series-1"), ("left", 0.33, "rest")]),
        svg.bars([("a", 0.1, "rest"), ("b", 0.9, "series-1")], "%"),
        svg.histogram([("a", [1, 2, 3], "rest"), ("b", [0, -1, 4], "series-1")], [2, 1, 0]),
        svg.line([(1, 3.0), (2, None), (3, 2.0)], "a < b", "steps", "loss"),
        svg.line([(1, 1.0)], "loss", "steps", "loss"),
    ],
)
def test_figures_are_well_formed(drawn: str) -> None:
    assert ET.fromstring(drawn).tag == "svg"
