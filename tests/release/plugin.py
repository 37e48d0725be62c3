"""The kubectl plugin as krew installs it: an archive for each platform, and their manifest.

An archive holds a launcher and the libraries of uv.lock for every Python that is supported. Those
of one Python differ from another's in the names of native modules alone: all lie in one folder.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

import yaml

# By krew's names, as uv calls them.
PLATFORMS = {
    "linux-amd64": "x86_64-manylinux_2_28",
    "linux-arm64": "aarch64-manylinux_2_28",
    "darwin-amd64": "x86_64-apple-darwin",
    "darwin-arm64": "aarch64-apple-darwin",
}
PYTHONS = ("3.11", "3.12", "3.13")
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


def version(root: Path) -> str:
    """The package's."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def archive(root: Path, folder: Path, platform: str) -> Path:
    """Make the archive of a platform, on any machine: all libraries come as wheels."""
    path = folder / f"kubectl-palimpsest-{version(root)}-{platform}.tar.gz"
    with tempfile.TemporaryDirectory() as temporary:
        inside = Path(temporary)
        wanted = inside / "requirements.txt"
        _uv(root, "export", "--frozen", "--no-dev", "--no-emit-project", "-o", str(wanted))
        _uv(root, "build", "--wheel", "--out-dir", str(inside / "wheel"))
        (wheel,) = (inside / "wheel").glob("*.whl")
        content = inside / "content"
        for python in PYTHONS:
            there = inside / python
            target = [f"--target={there}", f"--python-version={python}"]
            target.append(f"--python-platform={PLATFORMS[platform]}")
            hashed = ["--only-binary=:all:", "--require-hashes", "-r", str(wanted)]
            _uv(root, "pip", "install", *target, *hashed)
            _uv(root, "pip", "install", *target, "--no-deps", str(wheel))
            shutil.copytree(there, content / "lib", dirs_exist_ok=True)
        shutil.rmtree(content / "lib" / "bin", ignore_errors=True)
        for name in PROGRAMS:
            shutil.copy(root / "plugin" / "launcher.py", content / name)
            (content / name).chmod(0o755)
        shutil.copy(root / "LICENSE", content)
        with tarfile.open(path, "w:gz") as packed:
            for each in sorted(content.rglob("*")):
                if not each.is_dir():
                    packed.add(each, each.relative_to(content), filter=_nobodys)
    return path


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the builder's name and clock."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def _uv(root: Path, *arguments: str) -> None:
    subprocess.run(["uv", "--quiet", *arguments], cwd=root, check=True, stdout=subprocess.DEVNULL)
