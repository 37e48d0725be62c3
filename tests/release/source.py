"""What a release is made of: the tree of a commit, free of its checkout's clock, path and modes."""

from __future__ import annotations

import re
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml
from cluster.commands import run
from cluster.report import ClusterError, say

_OWN = re.compile(r'^__version__ = "(.*)"$', re.MULTILINE)


@dataclass(frozen=True)
class Source:
    """The files of a commit, and the time that all it makes carries."""

    tree: Path
    commit: str
    epoch: int

    @property
    def created(self) -> str:
        """The commit's time as RFC 3339."""
        return datetime.fromtimestamp(self.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    @property
    def version(self) -> str:
        """The version that package, code and chart agree on; ClusterError where they do not."""
        package = project_version(self.tree)
        chart = yaml.safe_load((self.tree / "charts/palimpsest/Chart.yaml").read_text())
        others = {f"{name} of Chart.yaml": chart[name] for name in ("version", "appVersion")}
        code = (self.tree / "operator/palimpsest/__init__.py").read_text()
        others["__version__ of palimpsest"] = "".join(_OWN.findall(code))
        for name, version in others.items():
            if version != package:
                raise ClusterError(
                    f"{name} is {version}, version of pyproject.toml {package}: make them equal"
                )
        return package


def project_version(tree: Path) -> str:
    """The package's."""
    project = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


@contextmanager
def checked_out(repository: Path) -> Iterator[Source]:
    """The commit at HEAD in a folder of its own, while the block lasts."""
    commit, epoch = _git(repository, "show", "-s", "--format=%H %ct", "HEAD").split()
    if _git(repository, "status", "--porcelain"):
        say(f"  note: the release is of commit {commit[:12]}; what is not committed is not in it")
    with tempfile.TemporaryDirectory(prefix="palimpsest-release-") as temporary:
        packed = Path(temporary) / "tree.tar"
        _git(repository, "-c", "tar.umask=0022", "archive", "-o", str(packed), "HEAD")
        tree = Path(temporary) / "tree"
        with tarfile.open(packed) as files:
            # The modes are git's, whatever the umask.
            files.extractall(tree, filter="tar")
        yield Source(tree, commit, int(epoch))


def _git(repository: Path, *arguments: str) -> str:
    return run(
        ["git", "-C", repository, *arguments],
        what=f"git {' '.join(each for each in arguments if each.isalpha())}",
        remedy="A release is made in a git repository, of its last commit.",
    )
