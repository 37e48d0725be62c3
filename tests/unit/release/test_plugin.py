"""The plugin's krew manifest, held against what krew takes, and the archive as krew unpacks it."""

import hashlib
import os
import platform
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from release.plugin import PLATFORMS, archive, filled, wheel
from release.source import Source

ROOT = Path(__file__).parents[3]
TEMPLATE = (ROOT / "plugin" / "krew.yaml").read_text(encoding="utf-8")
URL = "https://example.com/releases/v0.1.0/"
_SPEC = {"version", "shortDescription", "description", "caveats", "homepage", "platforms"}


def faults(manifest: dict[str, Any]) -> list[str]:
    """What krew's documentation and its own validation would say of a manifest."""
    spec = manifest["spec"]
    checks = {
        "apiVersion": manifest["apiVersion"] == "krew.googlecontainertools.github.com/v1alpha2",
        "kind": manifest["kind"] == "Plugin",
        "name": re.fullmatch(r"[\w-]+", manifest["metadata"]["name"]),
        "fields": set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
        and set(spec) <= _SPEC,
        "version": re.fullmatch(r"v\d+\.\d+\.\d+(-[\w.-]+)?", spec["version"]),
        # krew shows it in a table: 50 characters and no full stop, says the naming guide.
        "shortDescription": re.fullmatch(r"[^\r\n]{1,49}[^\r\n.]", spec["shortDescription"]),
        "platforms": bool(spec["platforms"]),
    }
    for each in spec["platforms"]:
        labels = each["selector"]["matchLabels"]
        checks |= {
            "platform": set(each) == {"selector", "uri", "sha256", "bin"},
            "selector": set(labels) == {"os", "arch"},
            "uri": re.fullmatch(r"https://[^ ${}]+\.(tar\.gz|zip)", each["uri"]),
            "sha256": re.fullmatch(r"[a-f0-9]{64}", each["sha256"]),
            "bin": each["bin"] == "kubectl-palimpsest",
        }
        if not all(checks.values()):
            break
    return [what for what, holds in checks.items() if not holds]


def archives(folder: Path, *platforms: str) -> dict[str, Path]:
    """Files that differ."""
    made = {}
    for name in platforms:
        made[name] = folder / name
        made[name].write_text(name)
    return made


def test_a_filled_manifest_is_what_krew_takes(tmp_path: Path) -> None:
    text = filled(TEMPLATE, "1.2.3", URL, archives(tmp_path, *PLATFORMS))
    manifest = yaml.safe_load(text)
    assert faults(manifest) == []
    spec = manifest["spec"]
    assert spec["version"] == "v1.2.3"
    for each in spec["platforms"]:
        name = "-".join(each["selector"]["matchLabels"][key] for key in ("os", "arch"))
        assert each["uri"] == f"{URL}kubectl-palimpsest-1.2.3-{name}.tar.gz"
        assert each["sha256"] == hashlib.sha256(name.encode()).hexdigest()
    # The shell's own variables are the user's to fill.
    assert "${KREW_ROOT:-$HOME/.krew}" in spec["caveats"]
    assert "${version}" not in text
    assert "description: |\n" in text


def test_the_template_itself_is_none() -> None:
    assert {"version", "sha256"} & set(faults(yaml.safe_load(TEMPLATE)))


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
def test_an_archive_runs_where_it_was_unpacked(tmp_path: Path) -> None:
    """As krew does it: unpacked into a store, the program linked into a folder of the PATH."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    source = Source(ROOT, "c" * 40, 1_700_000_000)
    made = archive(source, wheel(source, tmp_path), tmp_path, f"linux-{machine}")
    store = tmp_path / "store"
    with tarfile.open(made) as packed:
        packed.extractall(store, filter="data")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("kubectl-palimpsest", "kubectl_complete-palimpsest"):
        (programs / name).symlink_to(store / name)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        command = [str(programs / words[0]), *words[1:]]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=60
        )

    assert source.version in run("kubectl-palimpsest", "--version").stdout
    assert "Usage: kubectl palimpsest" in run("kubectl-palimpsest", "get", "--help").stdout
    assert "watch" in run("kubectl_complete-palimpsest", "wat").stdout.split()
    # Its processes find the libraries, too: that of the second accountant says what it lacks.
    training = ("--records", "900", "--batch-size", "9", "--steps", "9")
    done = run("kubectl-palimpsest", "plan", *training, "--epsilon", "3", "--delta", "1e-5")
    assert "the PLD accountant is not there" in done.stderr
