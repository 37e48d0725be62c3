"""The dashboards: queries of metrics that there are, panels that fit, links that lead somewhere."""

from __future__ import annotations

import json
import re
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from chart.dashboards import BOARDS, panels, queries
from chart.queries import check_selectors
from chart.test_alerts import ALERTS, RULES
from chart.test_templates import rendered, values
from cluster import toolchain

Json = dict[str, Any]
ROOT = Path(__file__).parents[2]
BASE = "docs/runbooks"
RECORDED = {rule["record"] for group in RULES for rule in group["rules"] if "record" in rule}
WIDTH = 24
each = pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))


@each
def test_queries_ask_for_metrics_that_there_are(board: Json) -> None:
    for query in queries(board):
        check_selectors(query, RECORDED)
    for variable in board["templating"]["list"][1:]:
        inner = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"])
        assert inner
        check_selectors(inner[1])
        check_selectors(f'{inner[1].partition("{")[0]}{{{inner[2]}=~".*"}}')


def test_what_is_recorded_is_asked_for() -> None:
    asked = [query for board in BOARDS.values() for query in queries(board)]
    asked += [rule["expr"] for rules in ALERTS.values() for rule in rules]
    assert {name for name in RECORDED if any(name in each for each in asked)} == RECORDED


@each
def test_a_panel_says_that_it_needs_the_recording_rules(board: Json) -> None:
    for panel in panels(board):
        recorded = any(target["expr"] in RECORDED for target in panel["targets"])
        assert recorded == ("recording rules" in panel.get("description", "")), panel["title"]


@each
def test_variables_are_declared_and_used(board: Json) -> None:
    declared = {variable["name"] for variable in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]+)\b", json.dumps(board)))
    assert used == declared
    assert declared >= {"datasource"}


@each
def test_panels_fit_and_say_what_they_show(board: Json) -> None:
    taken: set[tuple[int, int]] = set()
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= WIDTH
        assert not taken & cells, panel["title"]
        taken |= cells
        assert panel["title"]
    for panel in panels(board):
        assert panel["datasource"]["uid"] == "${datasource}"
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"]
        first, *_ = defaults["thresholds"]["steps"]
        assert first["value"] is None
        assert panel["targets"]


@each
def test_bounds_over_time_are_drawn(board: Json) -> None:
    for panel in panels(board):
        defaults = panel["fieldConfig"]["defaults"]
        if panel["type"] == "timeseries" and len(defaults["thresholds"]["steps"]) > 1:
            # Grafana draws none by itself.
            assert defaults["custom"]["thresholdsStyle"]["mode"] != "off", panel["title"]


@pytest.mark.parametrize("title", ["Operator leads", "Admission pods"])
def test_what_is_away_is_red_not_without_data(title: str) -> None:
    (panel,) = (panel for panel in panels(BOARDS["fleet.json"]) if panel["title"] == title)
    (target,) = panel["targets"]
    assert target["expr"].endswith(" or vector(0)")
    first, *_ = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert first["color"] == "red"


def test_names_are_unique() -> None:
    for field in ("uid", "title"):
        assert len({board[field] for board in BOARDS.values()}) == len(BOARDS)


def test_links_lead_to_runbooks_and_every_runbook_is_linked() -> None:
    linked = {
        link["url"]
        for board in BOARDS.values()
        for panel in panels(board)
        for link in panel.get("links", ())
    }
    known = {f"{BASE}/{alert}.md" for alert in ALERTS}
    assert linked <= known
    assert known - linked == set()


@each
def test_the_runbooks_first_page_is_linked(board: Json) -> None:
    (link,) = (link["url"] for link in board["links"] if link["title"] == "Runbooks")
    assert link == f"{BASE}/index.md"
    assert (ROOT / link).exists()


def installed(base: str, **more: str) -> dict[str, Json]:
    """The dashboards in a cluster."""
    rule = {"runbookBaseURL": base, **more}
    given = {"dashboards": {"enabled": True, "namespace": "grafana"}, "prometheusRule": rule}
    maps = [
        each
        for each in rendered(values(metrics=given))
        if each["metadata"].get("labels", {}).get("grafana_dashboard") == "1"
    ]
    assert {each["metadata"]["namespace"] for each in maps} == {"grafana"}
    return {name: json.loads(text) for each in maps for name, text in each["data"].items()}


def amiss(board: Json, folder: Path) -> str:
    """What Grafana's own types, read strictly, say of a dashboard."""
    path = folder / "board.json"
    path.write_text(json.dumps(board))
    program = [str(toolchain.checks() / "dashboards"), str(path)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == bool(done.stdout), done.stderr
    return done.stdout


@pytest.mark.parametrize("base", ["", "https://wiki.example/books"])
def test_dashboards_are_grafana_s(base: str, tmp_path: Path) -> None:
    boards = installed(base)
    assert set(boards) == set(BOARDS)
    for board in boards.values():
        assert not amiss(board, tmp_path)


def test_what_grafana_does_not_know_is_found(tmp_path: Path) -> None:
    for change, said in (
        ({"expression": "up"}, "unexpected field 'expression'"),
        ({"instant": "yes"}, "instant"),
    ):
        board = deepcopy(BOARDS["run.json"])
        next(panels(board))["targets"][0] |= change
        assert said in amiss(board, tmp_path)


def test_dashboards_go_to_where_grafana_looks() -> None:
    moved = json.dumps(BOARDS).replace(BASE, "https://wiki.example/books")
    assert installed("https://wiki.example/books/") == json.loads(moved)


@pytest.mark.parametrize("suffix", [".html", ""])
def test_dashboards_call_a_runbook_what_it_is_called_there(suffix: str) -> None:
    moved = json.dumps(BOARDS).replace(BASE, "https://wiki.example/books")
    called = moved.replace('.md"', f'{suffix}"')
    assert called != moved
    assert installed("https://wiki.example/books", runbookSuffix=suffix) == json.loads(called)


def test_dashboards_link_to_no_runbook_whose_place_nobody_said() -> None:
    boards = installed("")
    assert set(boards) == set(BOARDS)
    assert "runbooks" not in json.dumps(boards)
    for name, board in boards.items():
        assert [link["title"] for link in board["links"]] == ["Palimpsest"]
        unlinked = [{**panel, "links": None} for panel in board["panels"]]
        assert unlinked == [{**panel, "links": None} for panel in BOARDS[name]["panels"]]
