"""What the cache promises: whole artefacts or none."""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster import cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_interrupted_build_leaves_nothing_that_counts() -> None:
    def dies(folder: Path) -> None:
        (folder / "half").write_text("made")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.artefact("thing", "key", dies)

    def works(folder: Path) -> None:
        assert not list(folder.iterdir())
        (folder / "whole").write_text("made")

    built = cache.artefact("thing", "key", works)
    assert [path.name for path in built.iterdir()] == ["whole"]
    assert [path.name for path in built.parent.iterdir()] == ["key"]


def test_an_artefact_is_built_once() -> None:
    calls: list[Path] = []
    first = cache.artefact("thing", "key", calls.append)
    assert cache.artefact("thing", "key", calls.append) == first
    assert len(calls) == 1


def test_the_digest_tells_contents_and_boundaries_apart(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("a")
    before = cache.digest(file)
    file.write_text("b")
    assert cache.digest(file) != before
    assert cache.digest("ab", "c") != cache.digest("a", "bc")


def test_a_written_file_keeps_its_secret(tmp_path: Path) -> None:
    secret = tmp_path / "keys" / "secret.json"
    cache.write_atomic(secret, "{}", 0o600)
    assert secret.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in secret.parent.iterdir()] == ["secret.json"]
