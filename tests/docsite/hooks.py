"""What mkdocs cannot do by itself: patterns in the navigation, links to files beside docs/."""

from __future__ import annotations

import os.path
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
# A link that leaves the page's folder upwards, without an anchor.
_UPWARDS = re.compile(r"\]\(((?:\.\./)+[^)#\s]+)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages in place of the patterns."""
    config.nav = expanded(config.nav or [], Path(config.docs_dir))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files of the repository that pages link to."""
    docs = Path(config.docs_dir)
    linked = {
        path
        for page in files.documentation_pages()
        for link in _UPWARDS.findall(page.content_string)
        if (path := _beside(docs, page.src_uri, link))
    }
    for path in sorted(linked):
        uri = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_others: Any) -> str:
    """Lead links to these files to where the site has them."""
    here = page.file.src_uri

    def led(match: re.Match[str]) -> str:
        path = _beside(Path(config.docs_dir), here, match[1])
        if path is None:
            return match[0]
        return f"]({os.path.relpath(path.relative_to(ROOT), os.path.dirname(here) or '.')})"

    return _UPWARDS.sub(led, markdown)


def _beside(docs: Path, page: str, link: str) -> Path | None:
    """The file beside docs/ that a page links to; None if it is none, or would be a page."""
    path = (docs / page).parent.joinpath(link).resolve()
    ours = path.is_relative_to(ROOT) and not path.is_relative_to(docs)
    return path if ours and path.is_file() and path.suffix != ".md" else None


def expanded(nav: list[Any], docs: Path) -> list[Any]:
    """The navigation with the pages that each pattern finds, and without what is empty then."""
    found: list[Any] = []
    for entry in nav:
        if isinstance(entry, dict):
            ((title, below),) = entry.items()
            inner = expanded(below, docs) if isinstance(below, list) else below
            found += [{title: inner}] if inner else []
        elif "*" in entry:
            found += sorted(path.relative_to(docs).as_posix() for path in docs.glob(entry))
        else:
            found.append(entry)
    return found
