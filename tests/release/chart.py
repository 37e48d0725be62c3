"""The chart as one file."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path

from cluster import toolchain
from cluster.commands import run

from release.packing import files_in, pack
from release.source import Source


def package(source: Source, folder: Path) -> Path:
    """The chart's archive: what helm packs, without the clock that helm puts in."""
    with tempfile.TemporaryDirectory() as temporary:
        run(
            [
                *(toolchain.tools() / "helm", "package", source.tree / "charts" / "palimpsest"),
                *("--destination", temporary),
            ],
            what="packing the chart",
        )
        (made,) = Path(temporary).glob("*.tgz")
        content = Path(temporary) / "content"
        with tarfile.open(made) as packed:
            packed.extractall(content, filter="data")
        path = folder / made.name
        pack(files_in(content), path, source.epoch)
    return path
