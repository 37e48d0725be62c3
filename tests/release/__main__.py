"""python -m release: what a release of the last commit consists of, in build/release.

The same commit, base and tools give the same bytes, wherever and whenever it is made.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from cluster.images import NAMES, UV_EXTRAS, machine_architecture
from cluster.report import ClusterError, say, step

from release import chart, images, oci, plugin, record, sbom
from release.source import Source, checked_out

ROOT = Path(__file__).parents[2]
PARTS = ("images", "chart", "plugin")


def main() -> int:
    """Make the parts that were asked for."""
    try:
        asked = arguments(sys.argv[1:])
        if "images" in asked.parts:
            images.check_base(asked.base)
            images.check_platforms(asked.platforms, asked.base)
            images.check_machine()
        with checked_out(ROOT) as source:
            release(source, asked, asked.out)
    except (ClusterError, OSError) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted: nothing was changed in the folder of the last release")
        return 130
    for path in sorted(asked.out.iterdir()):
        print(f"  {path}  {path.stat().st_size / 1e6:.1f} MB")
    return 0


def arguments(given: list[str]) -> argparse.Namespace:
    """What is asked for; ends the program with the reason where it makes no sense."""
    parser = argparse.ArgumentParser(
        prog="make release", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--base",
        default="",
        help="BASE: the images' base, name@sha256:..., or `local`: a Debian made on this machine,\n"
        "whose digest release.json names.",
    )
    parser.add_argument(
        "--platforms",
        type=_words,
        default=f"linux/{machine_architecture()}",
        help="PLATFORMS of the images: linux/amd64,linux/arm64; default: this machine's. Another\n"
        "architecture's needs qemu-user-static and takes hours for the stages' image.",
    )
    parser.add_argument(
        "--parts", type=_words, default=",".join(PARTS), help=f"PARTS: some of {','.join(PARTS)}."
    )
    parser.add_argument(
        "--url",
        default="",
        help="URL of the folder that archives will lie in: adds krew's manifest.",
    )
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "release")
    asked = parser.parse_args(given)
    unknown = sorted(set(asked.parts) - set(PARTS))
    if unknown or not asked.parts:
        parser.error(f"PARTS: {', '.join(unknown) or 'none'}: give some of {','.join(PARTS)}")
    return asked


def release(source: Source, asked: argparse.Namespace, out: Path) -> None:
    """Make a release whole in a folder beside `out`, then put it there."""
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        if "chart" in asked.parts:
            with step("pack the chart"):
                chart.package(source, unfinished)
        if "plugin" in asked.parts:
            _plugin(source, unfinished, asked.url)
        made = _images(source, unfinished, asked) if "images" in asked.parts else []
        said = record.release_json(source, asked.base, made)
        (unfinished / "release.json").write_text(said, encoding="utf-8")
        with step("digests"):
            (unfinished / record.SUMS).write_text(record.sums(unfinished), encoding="utf-8")
        shutil.rmtree(out, ignore_errors=True)
        unfinished.rename(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _plugin(source: Source, folder: Path, url: str) -> None:
    archives = {}
    with tempfile.TemporaryDirectory() as temporary:
        wheel = plugin.wheel(source, Path(temporary))
        for platform in plugin.PLATFORMS:
            with step(f"plugin for {platform}"):
                archives[platform] = plugin.archive(source, wheel, folder, platform)
    name = "kubectl-palimpsest"
    subject = {"type": "application", "name": name, "version": source.version}
    contents = sbom.of_archives(archives.values())
    bill = sbom.bill(subject, sbom.of_lock(source), contents, source.created)
    (folder / f"{name}-{source.version}.cdx.json").write_text(bill, encoding="utf-8")
    if url:
        template = (source.tree / "plugin" / "krew.yaml").read_text(encoding="utf-8")
        manifest = plugin.filled(template, source.version, url, archives)
        (folder / "palimpsest.yaml").write_text(manifest, encoding="utf-8")


def _images(source: Source, folder: Path, asked: argparse.Namespace) -> list[images.Image]:
    made = []
    for name in NAMES:
        image = images.build(source, folder, name, asked.base, asked.platforms)
        made.append(image)
        lock = sbom.of_lock(source, *UV_EXTRAS[name])
        for architecture, layout in image.layouts.items():
            with step(f"bill of materials of {image.name}, {architecture}"):
                environment = oci.configuration(layout)["config"].get("Env", [])
                contents = sbom.of_layers(oci.layers(layout), environment)
                subject = {
                    "type": "container",
                    "name": image.name,
                    "version": source.version,
                    "hashes": [{"alg": "SHA-256", "content": layout.digest.partition(":")[2]}],
                }
                bill = sbom.bill(subject, lock, contents, source.created)
                file = f"{image.name}-{source.version}-linux-{architecture}.cdx.json"
                (folder / file).write_text(bill, encoding="utf-8")
    return made


def _words(text: str) -> list[str]:
    return [each for each in text.replace(",", " ").split() if each]


if __name__ == "__main__":
    sys.exit(main())
