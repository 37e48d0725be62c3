"""An OCI image layout in one tar file. Layers stay uncompressed: a digest then depends on no
compressor's version. `skopeo copy --preserve-digests` brings them into a registry as they are.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.images import Layout

_OCI = "application/vnd.oci.image"
Json = dict[str, Any]


def archive(path: Path, layouts: Mapping[str, Layout], version: str) -> str:
    """Write the archive of an image for these architectures; the digest that names it.

    That of the manifest where there is one architecture, else that of the index of all.
    """
    entries = [
        _described(layout.blobs[layout.digest].read_bytes(), "manifest")
        | {"platform": {"architecture": architecture, "os": "linux"}}
        for architecture, layout in sorted(layouts.items())
    ]
    texts: dict[str, bytes] = {}
    if len(entries) == 1:
        (top,) = entries
    else:
        index = _text({**_INDEX, "manifests": entries})
        top = _described(index, "index")
        texts[_place(top["digest"])] = index
    named = {**top, "annotations": {"org.opencontainers.image.ref.name": version}}
    texts["index.json"] = _text({**_INDEX, "manifests": [named]})
    texts["oci-layout"] = _text({"imageLayoutVersion": "1.0.0"})
    files = {
        _place(digest): blob for each in layouts.values() for digest, blob in each.blobs.items()
    }
    with tarfile.open(path, "w") as tar:
        for name in sorted({*texts, *files}):
            member = tarfile.TarInfo(name)
            if name in texts:
                member.size = len(texts[name])
                tar.addfile(member, io.BytesIO(texts[name]))
            else:
                member.size = files[name].stat().st_size
                with files[name].open("rb") as content:
                    tar.addfile(member, content)
    return str(top["digest"])


_INDEX = {"schemaVersion": 2, "mediaType": f"{_OCI}.index.v1+json"}


def layers(layout: Layout) -> list[Path]:
    """The files of an image's layers, the lowest first."""
    manifest = json.loads(layout.blobs[layout.digest].read_bytes())
    return [layout.blobs[each["digest"]] for each in manifest["layers"]]


def configuration(layout: Layout) -> Json:
    """What an image says of itself: its architecture, environment, times."""
    manifest = json.loads(layout.blobs[layout.digest].read_bytes())
    config: Json = json.loads(layout.blobs[manifest["config"]["digest"]].read_bytes())
    return config


def _described(content: bytes, kind: str) -> Json:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return {"mediaType": f"{_OCI}.{kind}.v1+json", "digest": digest, "size": len(content)}


def _place(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _text(content: Json) -> bytes:
    return json.dumps(content, sort_keys=True).encode()
