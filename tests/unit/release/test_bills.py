"""Bills of materials: what lies in an image's layers, told once, as it is at the end."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from release import sbom

LOCK: dict[str, Any] = {
    "metadata": {"tools": [{"name": "uv", "version": "1"}]},
    "components": [
        {
            "type": "library",
            "bom-ref": f"{name}-1@2.0",
            "name": name,
            "version": "2.0",
            "purl": f"pkg:pypi/{name}@2.0",
        }
        for name in ("first.thing", "second", "windows-only")
    ],
    "dependencies": [
        {"ref": "first.thing-1@2.0", "dependsOn": ["second-1@2.0", "windows-only-1@2.0"]},
        {"ref": "windows-only-1@2.0", "dependsOn": []},
    ],
}
SITE = "opt/venv/lib/python3.11/site-packages"
STATUS = """Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u10

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""
SUBJECT = {"type": "container", "name": "image", "version": "1"}


def layer(path: Path, *names: str, **texts: str) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, text in {**dict.fromkeys(names, ""), **texts}.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


@pytest.fixture
def layers(tmp_path: Path) -> list[Path]:
    return [
        layer(
            tmp_path / "base.tar",
            f"{SITE}/removed-9.dist-info/METADATA",
            f"{SITE}/second-1.0.dist-info/METADATA",
            **{
                "var/lib/dpkg/status": STATUS,
                "usr/lib/os-release": 'ID=debian\nVERSION_ID="12"\n',
            },
        ),
        layer(
            tmp_path / "dependencies.tar",
            f"{SITE}/.wh.removed-9.dist-info",
            f"{SITE}/second-1.0.dist-info/.wh.METADATA",
            f"{SITE}/first_thing-2.0.dist-info/METADATA",
            f"{SITE}/second-2.0.dist-info/METADATA",
            f"{SITE}/unlocked-3.1+cpu.dist-info/METADATA",
        ),
    ]


def test_what_a_later_layer_removes_is_not_there(layers: list[Path]) -> None:
    found = sbom.of_layers(layers, ["PATH=/bin", "PYTHON_VERSION=3.11.9"])
    assert found.python == {"first-thing": "2.0", "second": "2.0", "unlocked": "3.1+cpu"}
    assert list(found.debian) == [("libc6", "2.36-9+deb12u10", "amd64")]
    assert (found.distribution, found.interpreter) == ("debian-12", "3.11.9")


def test_a_bill_tells_what_is_there_and_no_more(layers: list[Path]) -> None:
    contents = sbom.of_layers(layers, ["PYTHON_VERSION=3.11.9"])
    text = sbom.bill(SUBJECT, LOCK, contents, "2026-01-02T03:04:05Z")
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(text) is None
    bill = json.loads(text)
    assert [part["purl"] for part in bill["components"]] == [
        "pkg:pypi/first.thing@2.0",
        "pkg:pypi/second@2.0",
        "pkg:pypi/unlocked@3.1%2Bcpu",
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64&distro=debian-12",
        "pkg:generic/python@3.11.9",
    ]
    needs = {each["ref"]: each["dependsOn"] for each in bill["dependencies"]}
    assert needs["first.thing-1@2.0"] == ["second-1@2.0"]
    assert set(needs["shipped"]) == {part["bom-ref"] for part in bill["components"]}
    assert bill["metadata"]["component"]["name"] == "image"
    assert text == sbom.bill(SUBJECT, LOCK, contents, "2026-01-02T03:04:05Z")
