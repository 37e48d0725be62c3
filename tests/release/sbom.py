"""Bills of materials in CycloneDX: what the lock names, as far as it lies in what is shipped, and
Debian's packages below it.

uv tells the lock's part, with the digests of the files that packages come from. Whatever Python
package is found in an image or archive but not in the lock is in its bill, too.
"""

from __future__ import annotations

import json
import re
import tarfile
import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.commands import run
from packageurl import PackageURL

from release.source import Source

Json = dict[str, Any]
_PYTHON_PACKAGE = re.compile(r"site-packages/([^/]+)-([^/-]+)\.dist-info/METADATA$")
_IN_PLUGIN = re.compile(r"^lib/([^/]+)-([^/-]+)\.dist-info/METADATA$")
_STATUS, _RELEASE = "var/lib/dpkg/status", "usr/lib/os-release"


@dataclass(frozen=True)
class Contents:
    """What lies in an image or archive: Python packages by name, Debian's as components."""

    python: Mapping[str, str]
    debian: Collection[tuple[str, str, str]] = ()
    distribution: str = ""
    interpreter: str = ""  # Python's version, where no package of Debian's is Python


def of_lock(source: Source, *extras: str) -> Json:
    """uv's bill of all that the lock may install."""
    said = run(
        [
            *("uv", "--quiet", "export", "--frozen", "--no-dev", "--no-emit-project", *extras),
            *("--format=cyclonedx1.5", "--preview-features=sbom-export"),
        ],
        what="reading the lock's bill of materials",
        cwd=source.tree,
    )
    bill: Json = json.loads(said)
    return bill


def of_layers(layers: Iterable[Path], environment: Iterable[str]) -> Contents:
    """What lies in an image; a later layer's files stand for an earlier's.

    Images of Python's makers tell its version in the environment alone.
    """
    python: dict[str, tuple[str, str]] = {}
    texts: dict[str, str] = {}
    for layer in layers:
        with tarfile.open(layer) as tar:
            for member in tar:
                place, _, base = member.name.rpartition("/")
                if base.startswith(".wh."):
                    gone = f"{place}/{base.removeprefix('.wh.')}"
                    python = {
                        path: named
                        for path, named in python.items()
                        if path != gone and not path.startswith(f"{gone}/")
                    }
                elif found := _PYTHON_PACKAGE.search(member.name):
                    python[member.name] = (found[1], found[2])
                elif member.name in (_STATUS, _RELEASE) and (content := tar.extractfile(member)):
                    texts[member.name] = content.read().decode()
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', texts.get(_RELEASE, ""), re.MULTILINE))
    return Contents(
        python={_canonical(name): version for name, version in python.values()},
        debian=_installed(texts.get(_STATUS, "")),
        distribution=f"{release.get('ID', '')}-{release.get('VERSION_ID', '')}",
        interpreter=dict(each.split("=", 1) for each in environment).get("PYTHON_VERSION", ""),
    )


def of_archives(paths: Iterable[Path]) -> Contents:
    """What lies in the plugin's archives, all together."""
    python = {}
    for path in paths:
        with tarfile.open(path) as tar:
            for name in tar.getnames():
                if found := _IN_PLUGIN.match(name):
                    python[_canonical(found[1])] = found[2]
    return Contents(python)


def bill(subject: Json, lock: Json, contents: Contents, created: str) -> str:
    """The bill of `subject`, a component by CycloneDX; the same input gives the same text."""
    locked = {
        (_canonical(each["name"]), each["version"]): each for each in lock.get("components", ())
    }
    own = _canonical("palimpsest")
    parts = []
    for name, version in sorted(contents.python.items()):
        if name != own:
            parts.append(locked.get((name, version)) or _component("pypi", name, version))
    for name, version, architecture in sorted(contents.debian):
        qualifiers = {"arch": architecture, "distro": contents.distribution}
        parts.append(_component("deb", name, version, contents.distribution, qualifiers))
    if contents.interpreter:
        parts.append(_component("generic", "python", contents.interpreter))
    references = {each["bom-ref"] for each in parts}
    root = {**subject, "bom-ref": "shipped"}
    tools = lock["metadata"]["tools"]
    text = json.dumps(
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "serialNumber": uuid.uuid5(uuid.NAMESPACE_OID, json.dumps([root, parts])).urn,
            "metadata": {"timestamp": created, "tools": tools, "component": root},
            "components": parts,
            "dependencies": [
                {"ref": "shipped", "dependsOn": sorted(references)},
                *(
                    {
                        "ref": each["ref"],
                        "dependsOn": [
                            one for one in each.get("dependsOn", ()) if one in references
                        ],
                    }
                    for each in lock.get("dependencies", ())
                    if each["ref"] in references
                ),
            ],
        },
        indent=1,
    )
    return text + "\n"


def _component(
    kind: str, name: str, version: str, distribution: str = "", qualifiers: Json | None = None
) -> Json:
    namespace = distribution.partition("-")[0] or None
    url = PackageURL(kind, namespace, name, version, qualifiers).to_string()
    return {"type": "library", "bom-ref": url, "name": name, "version": version, "purl": url}


def _installed(status: str) -> list[tuple[str, str, str]]:
    """The packages that dpkg's status file calls installed: name, version, architecture."""
    found = []
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^([\w-]+): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            found.append((fields["Package"], fields["Version"], fields["Architecture"]))
    return found


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
