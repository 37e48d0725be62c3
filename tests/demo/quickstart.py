"""The checked-in YAML with this machine's store and the parts' digests put in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from demo.console import DemoError
from demo.ground import Store

FOLDER = Path(__file__).parents[2] / "examples" / "quickstart"
_PLACEHOLDER = re.compile(r"\$\{([A-Z_]+)\}")


def render(text: str, values: Mapping[str, str]) -> str:
    """Replace every ${NAME}. Raises DemoError for a name without a value."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise DemoError(f"no value for ${{{match[1]}}} in examples/quickstart")
        return values[match[1]]

    return _PLACEHOLDER.sub(value, text)


def write(values: Mapping[str, str], target: Path) -> list[Path]:
    """Render every file below examples/quickstart into `target`, by the same relative paths."""
    written = []
    for source in sorted(FOLDER.rglob("*.yaml")):
        path = target / source.relative_to(FOLDER)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render(source.read_text(), values))
        written.append(path)
    return written


def store_values(store: Store) -> dict[str, str]:
    """The placeholders that speak of the object store."""
    return {
        "STORE_ENDPOINT": store.endpoint,
        "STORE_REGION": store.region,
        "STORE_CIDR": store.cidr,
        "STORE_PORT": store.port,
    }
