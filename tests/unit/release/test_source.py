"""What a release is of: one commit, one version."""

import shutil
from pathlib import Path

import pytest
from cluster.report import ClusterError
from release.source import Source, checked_out

ROOT = Path(__file__).parents[3]
TOLD = {
    "pyproject.toml": "version of pyproject.toml",
    "charts/palimpsest/Chart.yaml": "of Chart.yaml",
    "operator/palimpsest/__init__.py": "__version__ of palimpsest",
}


@pytest.fixture
def source(tmp_path: Path) -> Source:
    for name in TOLD:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return Source(tmp_path, "c" * 40, 1767323045)


def test_all_tell_one_version(source: Source) -> None:
    assert source.version == Source(ROOT, "", 0).version
    assert source.created == "2026-01-02T03:04:05Z"


@pytest.mark.parametrize("file", TOLD)
def test_another_version_is_refused_by_its_place(source: Source, file: str) -> None:
    path = source.tree / file
    path.write_text(path.read_text().replace(source.version, "9.9.9"))
    with pytest.raises(ClusterError, match=f"{TOLD[file]}.*make them equal"):
        _ = source.version


def test_a_folder_without_a_commit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="in a git repository"), checked_out(tmp_path):
        pass
