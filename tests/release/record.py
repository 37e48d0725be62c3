"""What a release says of itself: release.json, and the digests of all its files."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cluster import toolchain
from cluster.commands import run

from release.images import Image, base_digest
from release.source import Source

SUMS = "SHA256SUMS"


def release_json(source: Source, base: str, images: Iterable[Image]) -> str:
    """Of which commit, on which base, with which tools, and the digest of each image."""
    made = {
        image.name: {
            "archive": image.archive.name,
            "digest": image.digest,
            "platforms": {
                f"linux/{architecture}": layout.digest
                for architecture, layout in sorted(image.layouts.items())
            },
        }
        for image in images
    }
    told: dict[str, Any] = {
        "version": source.version,
        "commit": source.commit,
        "created": source.created,
        "tools": tools(with_buildah=bool(made)),
    }
    if made:
        told |= {"base": {"name": base, "digest": base_digest(base)}, "images": made}
    return json.dumps(told, indent=1) + "\n"


def tools(with_buildah: bool) -> dict[str, str]:
    """The versions of what shaped the bytes."""
    commands: dict[str, list[str | Path]] = {
        "helm": [toolchain.tools() / "helm", "version", "--short"],
        "uv": ["uv", "--version"],
    }
    if with_buildah:
        commands["buildah"] = ["buildah", "--version"]
    said = {name: run(command, what=f"{name}'s version") for name, command in commands.items()}
    versions = {name: re.search(r"\d+(\.\d+)+", text) for name, text in said.items()}
    return {
        **{name: found[0] for name, found in versions.items() if found},
        "python": platform.python_version(),
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
    }


def sums(folder: Path) -> str:
    """The digests of a folder's files, as `sha256sum --check` reads them."""
    lines = []
    for path in sorted(folder.iterdir()):
        with path.open("rb") as content:
            lines.append(f"{hashlib.file_digest(content, 'sha256').hexdigest()}  {path.name}\n")
    return "".join(lines)
