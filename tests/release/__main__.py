"""python -m release: the plugin's archives and krew manifest, in build/plugin."""

from __future__ import annotations

import argparse
from pathlib import Path

from release.plugin import PLATFORMS, archive, filled, version

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Make the archives that were asked for, and the manifest that names them."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--url", required=True, help="The folder that archives are put in.")
    arguments.add_argument(
        "--platform", action="append", choices=[*PLATFORMS], help="Again for each; default: all."
    )
    asked = arguments.parse_args()
    folder = ROOT / "build" / "plugin"
    folder.mkdir(parents=True, exist_ok=True)
    made = {platform: archive(ROOT, folder, platform) for platform in asked.platform or PLATFORMS}
    manifest = folder / "palimpsest.yaml"
    template = (ROOT / "plugin" / "krew.yaml").read_text(encoding="utf-8")
    manifest.write_text(filled(template, version(ROOT), asked.url, made), encoding="utf-8")
    for path in (*made.values(), manifest):
        print(f"  {path.relative_to(ROOT)}  {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
