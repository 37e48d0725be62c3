"""summary.json and report.html."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from demo import page


def write(told: Mapping[str, Any], folder: Path) -> None:
    """Write both files."""
    (folder / "summary.json").write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    (folder / "report.html").write_text(page.render(told), encoding="utf-8")
