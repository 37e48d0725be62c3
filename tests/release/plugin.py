"""The kubectl plugin as krew installs it: an archive for each platform, and their manifest.

An archive holds a launcher and the libraries of uv.lock for every Python that is supported. Those
of one Python differ from another's in the names of native modules alone: all lie in one folder.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

import yaml
from cluster.commands import run

from release.packing import files_in, pack
from release.source import Source

# By krew's names, as uv calls them. Not Intel's Macs: cryptography has no wheels for them.
PLATFORMS = {
    "linux-amd64": "x86_64-manylinux_2_28",
    "linux-arm64": "aarch64-manylinux_2_28",
    "darwin-arm64": "aarch64-apple-darwin",
}
PYTHONS = ("3.11", "3.12", "3.13")
LIBRARIES = ("--frozen", "--no-dev", "--no-emit-project")
PROGRAMS = ("kubectl-palimpsest", "kubectl_complete-palimpsest")


def filled(template: str, version: str, url: str, archives: Mapping[str, Path]) -> str:
    """The manifest of these archives, which lie at `url`; platforms without one are left out.

    Raises ValueError where an archive's platform is none of the template's.
    """
    # What only a user's shell knows stays as it is.
    text = Template(template).safe_substitute(version=version, url=url.rstrip("/"))
    manifest: dict[str, Any] = yaml.safe_load(text)
    platforms = {_platform(each): each for each in manifest["spec"]["platforms"]}
    unknown = sorted(set(archives) - set(platforms))
    if unknown or not archives:
        raise ValueError(f"{', '.join(unknown) or 'no archive'}: give some of {[*platforms]}")
    manifest["spec"]["platforms"] = [
        {**platforms[name], "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for name, path in archives.items()
    ]
    return yaml.dump(manifest, Dumper=_Readable, sort_keys=False, width=100)


class _Readable(yaml.SafeDumper):
    """Writes a text of several lines as such."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """In literal style where lines end in it."""
        style = "|" if "\n" in data else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Readable.add_representer(str, _Readable.represent_str)


def _platform(entry: Mapping[str, Any]) -> str:
    chosen = entry["selector"]["matchLabels"]
    return f"{chosen['os']}-{chosen['arch']}"


def wheel(source: Source, folder: Path) -> Path:
    """The package itself, built with the lock's version of what builds it."""
    constraints = folder / "build-constraints.txt"
    _uv(source, "export", "--frozen", "--only-group", "release", "-o", str(constraints))
    _uv(
        source,
        *("build", "--wheel", "--require-hashes", f"--build-constraints={constraints}"),
        *("--out-dir", str(folder)),
    )
    (made,) = folder.glob("*.whl")
    return made


def archive(source: Source, built: Path, folder: Path, platform: str) -> Path:
    """The archive of a platform, with the package's wheel; on any machine: all comes as wheels."""
    path = folder / f"kubectl-palimpsest-{source.version}-{platform}.tar.gz"
    with tempfile.TemporaryDirectory() as temporary:
        inside = Path(temporary)
        wanted = inside / "requirements.txt"
        _uv(source, "export", *LIBRARIES, "-o", str(wanted))
        libraries: dict[str, Path] = {}
        for python in PYTHONS:
            there = inside / python
            _uv(
                source,
                *("pip", "install", f"--target={there}", f"--python-version={python}"),
                f"--python-platform={PLATFORMS[platform]}",
                *("--only-binary=:all:", "--require-hashes", "-r", str(wanted)),
            )
            libraries |= files_in(there)
        with zipfile.ZipFile(built) as package:
            package.extractall(inside / "own")
        libraries |= files_in(inside / "own")
        launcher = inside / "launcher"
        shutil.copyfile(source.tree / "plugin" / "launcher.py", launcher)
        launcher.chmod(0o755)
        content = dict.fromkeys(PROGRAMS, launcher) | {"LICENSE": source.tree / "LICENSE"}
        content |= {
            f"lib/{name}": file for name, file in libraries.items() if not name.startswith("bin/")
        }
        pack(content, path, source.epoch)
    return path


def _uv(source: Source, *arguments: str) -> None:
    run(
        ["uv", "--quiet", *arguments],
        what=f"uv {arguments[0]}",
        remedy="Check the network (packages come from PyPI), then run again.",
        cwd=source.tree,
        env={"SOURCE_DATE_EPOCH": str(source.epoch)},
    )
