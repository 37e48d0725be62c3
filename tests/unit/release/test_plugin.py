"""The plugin's krew manifest by krew's own judge, and the archive as krew itself installs it."""

import hashlib
import os
import platform
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from cluster import toolchain
from release.plugin import PLATFORMS, archive, filled, wheel
from release.source import Source

ROOT = Path(__file__).parents[3]
TEMPLATE = (ROOT / "plugin" / "krew.yaml").read_text(encoding="utf-8")
URL = "https://example.com/releases/v0.1.0/"


def verdict(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """What krew's own judge says of a manifest."""
    file = folder / "palimpsest.yaml"
    file.write_text(text, encoding="utf-8")
    judge = toolchain.krew() / "validate-krew-manifest"
    return subprocess.run(
        [judge, "-manifest", file, "-skip-install"], capture_output=True, text=True, check=False
    )


def archives(folder: Path, *platforms: str) -> dict[str, Path]:
    """Files that differ."""
    made = {}
    for name in platforms:
        made[name] = folder / name
        made[name].write_text(name)
    return made


def test_a_filled_manifest_is_what_krew_takes(tmp_path: Path) -> None:
    text = filled(TEMPLATE, "1.2.3", URL, archives(tmp_path, *PLATFORMS))
    said = verdict(tmp_path, text)
    assert said.returncode == 0, said.stderr
    spec = yaml.safe_load(text)["spec"]
    # krew shows it in a table: 50 characters and no full stop, says the naming guide.
    assert re.fullmatch(r".{1,49}[^.]", spec["shortDescription"])
    assert spec["version"] == "v1.2.3"
    for each in spec["platforms"]:
        name = "-".join(each["selector"]["matchLabels"][key] for key in ("os", "arch"))
        assert each["uri"] == f"{URL}kubectl-palimpsest-1.2.3-{name}.tar.gz"
        assert each["sha256"] == hashlib.sha256(name.encode()).hexdigest()
    # The shell's own variables are the user's to fill.
    assert "${KREW_ROOT:-$HOME/.krew}" in spec["caveats"]
    assert "${version}" not in text
    assert "description: |\n" in text


def test_the_template_itself_is_none(tmp_path: Path) -> None:
    assert verdict(tmp_path, TEMPLATE).returncode != 0


def test_platforms_without_an_archive_are_left_out(tmp_path: Path) -> None:
    manifest = yaml.safe_load(filled(TEMPLATE, "1.2.3", URL, archives(tmp_path, "darwin-arm64")))
    (only,) = manifest["spec"]["platforms"]
    assert only["selector"]["matchLabels"] == {"os": "darwin", "arch": "arm64"}


@pytest.mark.parametrize("platforms", [[], ["windows-amd64"]])
def test_what_the_template_does_not_know_is_refused(tmp_path: Path, platforms: list[str]) -> None:
    with pytest.raises(ValueError, match="give some of"):
        filled(TEMPLATE, "1.2.3", URL, archives(tmp_path, *platforms))


@pytest.mark.full
@pytest.mark.skipif(platform.system() != "Linux", reason="the archive is made for Linux")
def test_krew_installs_the_archive_and_it_runs(tmp_path: Path) -> None:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    source = Source(ROOT, "c" * 40, 1_700_000_000)
    name = f"linux-{machine}"
    made = archive(source, wheel(source, tmp_path), tmp_path, name)
    manifest = tmp_path / "palimpsest.yaml"
    manifest.write_text(filled(TEMPLATE, source.version, URL, {name: made}), encoding="utf-8")
    home = tmp_path / "krew"
    programs = home / "bin"
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "KREW_ROOT": str(home),
    }

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, env=environment, capture_output=True, text=True, check=True, timeout=60
        )

    krew = toolchain.krew() / "krew"
    told = run(krew, "install", f"--manifest={manifest}", f"--archive={made}")
    assert "Installed plugin: palimpsest" in told.stderr
    assert "Needs Python 3.11" in told.stderr
    # As the caveats say.
    completing = home / f"store/palimpsest/v{source.version}/kubectl_complete-palimpsest"
    (programs / completing.name).symlink_to(completing)
    assert source.version in run("kubectl-palimpsest", "--version").stdout
    assert "Usage: kubectl palimpsest" in run("kubectl-palimpsest", "get", "--help").stdout
    assert "watch" in run("kubectl_complete-palimpsest", "wat").stdout.split()
    # Its processes find the libraries, too: that of the second accountant says what it lacks.
    training = ("--records", "900", "--batch-size", "9", "--steps", "9")
    limit = ("--epsilon", "3", "--delta", "1e-5")
    done = run("kubectl-palimpsest", "plan", *training, *limit)
    assert "the PLD accountant is not there" in done.stderr
