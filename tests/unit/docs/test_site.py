"""The documentation site: it builds, nothing in it leads nowhere, and it fetches nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from docsite import hooks
from unit.docs.pages import DOCS, PAGES, README, ROOT, name, sentences

# What a browser fetches by itself, as (tag, attribute).
FETCHED = {
    ("script", "src"),
    ("link", "href"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
}
LINK = re.compile(r"\]\(([^)\s]+)\)")


def build(config: Path, site: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-f", config, "-d", site, *options],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


class Fetches(HTMLParser):
    """The addresses that a page makes a browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for key, value in attrs if value and (tag, key) in FETCHED]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. Strict: a link, an anchor or a page of the navigation that is not there."""
    place = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", place, "--strict")
    assert done.returncode == 0, done.stderr
    return place


def test_every_page_is_built(site: Path) -> None:
    built = {path.relative_to(site).with_suffix(".md") for path in site.rglob("*.html")}
    assert {page.relative_to(DOCS) for page in PAGES} <= built


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        fetches = Fetches()
        fetches.feed(page.read_text())
        assert fetches.addresses, page
        outside = [each for each in fetches.addresses if re.match(r"(https?:)?//", each)]
        assert outside == [], page
    for style in site.rglob("*.css"):
        assert "url(http" not in style.read_text().replace('"', ""), style


def test_pages_lead_to_files_of_the_repository(site: Path) -> None:
    page = (site / "how-to" / "data.html").read_text()
    assert 'href="../examples/production/budget.yaml"' in page
    assert (site / "examples" / "production" / "budget.yaml").read_text() == (
        ROOT / "examples" / "production" / "budget.yaml"
    ).read_text()


def test_the_search_knows_every_page(site: Path) -> None:
    index = (site / "search" / "search_index.json").read_text()
    for page in PAGES:
        assert f'"{page.relative_to(DOCS).with_suffix(".html")}' in index


def named(nav: list[Any]) -> Iterator[str]:
    for entry in nav:
        if isinstance(entry, str):
            yield entry
            continue
        for value in entry.values():
            yield from named(value if isinstance(value, list) else [value])


def test_every_page_is_in_the_navigation_once() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    pages = sorted(str(page.relative_to(DOCS)) for page in PAGES)
    assert sorted(named(hooks.expanded(config["nav"], DOCS))) == pages


def test_patterns_of_the_navigation_find_pages(tmp_path: Path) -> None:
    (tmp_path / "runbooks").mkdir()
    for page in ("metrics.md", "runbooks/b.md", "runbooks/a.md"):
        (tmp_path / page).touch()
    operate = {"Operate": ["metrics*.md", {"Runbooks": ["runbooks/*.md"]}]}
    found = ["metrics.md", {"Runbooks": ["runbooks/a.md", "runbooks/b.md"]}]
    assert hooks.expanded([{"Home": "index.md"}, operate], tmp_path) == [
        {"Home": "index.md"},
        {"Operate": found},
    ]
    assert hooks.expanded([operate], tmp_path / "runbooks") == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_list_items_go_on_where_the_site_looks_for_them(page: Path) -> None:
    """A paragraph of an item by fours; with less the list ends, and the next one begins at 1."""
    indents = re.findall(r"\n\n( +)\S", sentences(page))
    assert [len(each) for each in indents if len(each) % 4] == []


def test_strict_means_that_faults_are_found(tmp_path: Path) -> None:
    """The same settings on pages with a fault each."""
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    config |= {"docs_dir": "pages", "nav": [{"Home": "index.md"}], "extra_css": []}
    config["hooks"] = [str(ROOT / "tests" / "docsite" / "hooks.py")]
    (tmp_path / "pages").mkdir()
    links = "[b](b.md) [c](index.md#c) [d](/d.md) [e](../e.yaml)"
    (tmp_path / "pages" / "index.md").write_text(f"# A\n\n{links}\n")
    (tmp_path / "pages" / "orphan.md").write_text("# Nobody's\n")
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(config))
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site", "--strict")
    assert done.returncode != 0
    for fault in ("'b.md'", "'index.md#c'", "'/d.md'", "'../e.yaml'", "orphan.md"):
        assert re.search(rf"WARNING.*{re.escape(fault)}|- {re.escape(fault)}", done.stderr), fault


def test_relative_links_of_the_readme_lead_somewhere() -> None:
    links = [each for each in LINK.findall(README.read_text()) if "://" not in each]
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        assert not anchor, "the site's anchors are checked, those of the repository are not"
        assert (ROOT / unquote(path)).exists(), link
