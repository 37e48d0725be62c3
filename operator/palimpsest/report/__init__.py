"""One HTML page about a resource, which needs no network: from what was read to the page. Pure."""

from pathlib import Path

STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
