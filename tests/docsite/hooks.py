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
# Files of the repository that pages may link to, as they would on its own web pages.
SHOWN = "examples"
_LINK = re.compile(rf"\]\((?:\.\./)+({SHOWN}/[^)\s]+)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages in place of the patterns."""
    config.nav = expanded(config.nav or [], Path(config.docs_dir))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files that may be linked to."""
    for path in sorted((ROOT / SHOWN).rglob("*")):
        if path.is_file() and path.suffix != ".md":
            uri = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_others: Any) -> str:
    """Lead links to these files to where the site has them."""
    folder = os.path.dirname(page.file.src_uri)
    return _LINK.sub(lambda match: f"]({os.path.relpath(match[1], folder or '.')})", markdown)


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
