"""The same commit makes the same bytes, wherever, whenever and under whatever umask."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from chart.test_templates import CHART, values
from cluster import cache, images, toolchain
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from release import chart, oci, plugin, record, sbom
from release.images import build
from release.source import checked_out

ROOT = Path(__file__).parents[3]
MOMENT = {f"GIT_{who}_DATE": "2026-01-02T03:04:05Z" for who in ("AUTHOR", "COMMITTER")}


def git(folder: Path, *arguments: str) -> str:
    someone = ("-c", "user.name=someone", "-c", "user.email=someone@example.com")
    done = subprocess.run(
        ["git", "-C", folder, *someone, *arguments],
        env={**os.environ, **MOMENT},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


@pytest.fixture(scope="module")
def clones(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two clones of one commit of this working tree, which differ in path, times and modes."""
    folder = tmp_path_factory.mktemp("clones")
    origin = folder / "origin"
    for name in git(ROOT, "ls-files", "-z").split("\0"):
        if name and (ROOT / name).is_file():
            (origin / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, origin / name)
    git(folder, "init", "--quiet", str(origin))
    git(origin, "add", "--all", "--force")
    git(origin, "commit", "--quiet", "--message=a release")
    made = [folder / "first", folder / "elsewhere" / "second"]
    for clone, umask in zip(made, (0o022, 0o077), strict=True):
        before = os.umask(umask)
        git(folder, "clone", "--quiet", str(origin), str(clone))
        os.umask(before)
    for path in made[1].rglob("*"):
        os.utime(path, (1_500_000_000, 1_500_000_000), follow_symlinks=False)
    return made


@pytest.fixture(scope="module")
def releases(clones: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of each clone the chart, the plugin for one platform and its bill of materials."""
    folders = []
    for clone, umask in zip(clones, (0o022, 0o077), strict=True):
        folder = tmp_path_factory.mktemp("release")
        wheels = tmp_path_factory.mktemp("wheel")
        before = os.umask(umask)
        with checked_out(clone) as source:
            chart.package(source, folder)
            packed = plugin.archive(source, plugin.wheel(source, wheels), folder, "linux-amd64")
            subject = {"type": "application", "name": "plugin", "version": source.version}
            contents = sbom.of_archives([packed])
            bill = sbom.bill(subject, sbom.of_lock(source), contents, source.created)
            (folder / "plugin.cdx.json").write_text(bill)
        os.umask(before)
        folders.append(folder)
    return folders


def test_two_clones_make_the_same_bytes(releases: list[Path]) -> None:
    first, second = (record.sums(folder) for folder in releases)
    assert first.count("\n") == 3
    assert first == second


def test_the_sums_are_those_that_are_checked(releases: list[Path], tmp_path: Path) -> None:
    shutil.copytree(releases[0], tmp_path / "got")
    (tmp_path / "got" / record.SUMS).write_text(record.sums(releases[0]))
    check = ["sha256sum", "--check", "--strict", record.SUMS]
    assert subprocess.run(check, cwd=tmp_path / "got", check=False).returncode == 0
    with next((tmp_path / "got").glob("*.tgz")).open("ab") as bitten:
        bitten.write(b"x")
    assert subprocess.run(check, cwd=tmp_path / "got", check=False).returncode == 1


def test_all_carries_the_commits_time_and_nobodys_name(releases: list[Path]) -> None:
    for path in (*releases[1].glob("*.tgz"), *releases[1].glob("*.tar.gz")):
        assert path.read_bytes()[4:8] == bytes(4), "gzip's own clock"
        with tarfile.open(path) as packed:
            members = packed.getmembers()
        assert {member.mtime for member in members} == {1767323045}
        assert {(member.uid, member.gid, member.uname) for member in members} == {(0, 0, "")}
        assert {member.mode for member in members} <= {0o644, 0o755}
        assert [member.name for member in members] == sorted(member.name for member in members)


def test_helm_takes_the_packed_chart_for_the_folder(releases: list[Path]) -> None:
    given = json.dumps(values(receipts={"signingKeySecret": "mine"}))

    def rendered(place: Path) -> str:
        return subprocess.run(
            [
                *(toolchain.tools() / "helm", "template", "palimpsest", place, "--values=-"),
                "--kube-version=1.34.4",
            ],
            input=given,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    (packed,) = releases[0].glob("*.tgz")
    assert rendered(packed) == rendered(CHART)


def test_the_plugins_bill_names_every_library_with_its_digest(releases: list[Path]) -> None:
    bill = json.loads((releases[0] / "plugin.cdx.json").read_text())
    named = {part["name"]: part for part in bill["components"]}
    (packed,) = releases[0].glob("*.tar.gz")
    with tarfile.open(packed) as content:
        metadata = [name for name in content.getnames() if name.endswith(".dist-info/METADATA")]
    assert len(metadata) == len(named) + 1, "all but the package itself"
    assert {"kubernetes", "boto3", "cryptography"} <= set(named)
    assert "torch" not in named
    checked = False
    for part in named.values():
        files = part["externalReferences"]
        assert all(each["hashes"] for each in files), part["name"]
        del files[: None if checked else -1]  # each one's address takes the validator long
        checked = True
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(json.dumps(bill)) is None


@pytest.mark.full
@pytest.mark.skipif(
    os.geteuid() != 0 or sys.platform != "linux", reason="images are built on Linux, as root"
)
def test_the_operators_image_is_the_same_from_an_empty_cache(
    clones: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built from another clone with nothing kept but the base."""
    images.local_base_digest()
    kept = cache.root() / "debian"
    made = []
    for index, clone in enumerate(clones):
        folder = tmp_path / str(index)
        folder.mkdir()
        if index:
            other = tmp_path / "cache"
            other.mkdir()
            (other / "debian").symlink_to(kept)
            monkeypatch.setenv("PALIMPSEST_CACHE", str(other))
        with checked_out(clone) as source:
            platforms = [f"linux/{images.machine_architecture()}"]
            image = build(source, folder, "operator", images.LOCAL_BASE, platforms)
            (layout,) = image.layouts.values()
            config = oci.configuration(layout)
            assert f"PALIMPSEST_COMMIT={source.commit}" in config["config"]["Env"]
            assert config["created"] == source.created
        made.append((image.digest, record.sums(folder)))
        print(source.commit, *made[-1])
    assert made[0] == made[1]
