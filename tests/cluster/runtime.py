"""The node's image store: what a new image lacks is brought in, the rest stays."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from cluster.images import Layout
from cluster.node import SOCKET
from cluster.report import ClusterError

LENT_BYTES = 1 << 26


class Runtime:
    """The containerd of the cluster whose process 1 is `pid`."""

    def __init__(self, pid: int, root: Path) -> None:
        self.content = root / "root" / "io.containerd.content.v1.content" / "blobs"
        self.ctr = ["nsenter", "-t", str(pid), "-m", "-p", "-n"]
        self.ctr += ["ctr", "-a", SOCKET, "-n", "k8s.io"]

    def answers(self) -> bool:
        return (
            subprocess.run([*self.ctr, "version"], capture_output=True, check=False).returncode == 0
        )

    def names(self) -> set[str]:
        return set(self._run("images", "ls", "-q").split())

    def add(self, layout: Layout, attempts: int = 3) -> None:
        """Imports an image under its name and its reference by digest, unless it is there."""
        listed = self._run("images", "ls", f"name=={layout.name}")
        if (
            layout.digest in listed
            and layout.reference in self.names()
            and self._is_whole(layout.name)
        ):
            return
        there = set(self._run("content", "ls", "-q").split())
        missing = [
            digest
            for digest, path in layout.blobs.items()
            if digest not in there and not self._lend(digest, path)
        ]
        importer = subprocess.Popen(
            [*self.ctr, "images", "import", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert importer.stdin is not None
        assert importer.stderr is not None
        try:
            with (
                importer.stdin,
                tarfile.open(fileobj=importer.stdin, mode="w|", bufsize=1 << 20) as archive,
            ):
                _fill(archive, layout, missing)
        except BrokenPipeError:
            pass  # its error says why
        error = importer.stderr.read().decode(errors="replace").strip()
        if importer.wait() != 0:
            if attempts > 1:
                # A lent blob belongs to no image yet: containerd's collector may have been faster.
                self.add(layout, attempts - 1)
                return
            raise ClusterError(f"importing {layout.name} failed: {error.splitlines()[-1:]}")

    def _is_whole(self, name: str) -> bool:
        """Whether every layer is there: an import that was killed can leave a name without them."""
        lines = self._run("images", "check", f"name=={name}").splitlines()[1:]
        return bool(lines) and all("incomplete" not in line for line in lines)

    def _lend(self, digest: str, path: Path) -> bool:
        """Gives the image store a big blob as a second name of the cache's file, if it can."""
        if path.stat().st_size < LENT_BYTES:
            return False
        stored = self.content / digest.replace(":", "/")
        try:
            if not stored.exists():
                stored.parent.mkdir(parents=True, exist_ok=True)
                stored.hardlink_to(path)
        except OSError:
            return False  # another file system
        # containerd finds the content in its place, seeks to the end of what it is given and
        # takes note of it.
        expected = ["--expected-digest", digest, "--expected-size", str(path.stat().st_size)]
        with path.open("rb") as content:
            self._run("content", "ingest", *expected, f"lend-{digest}", stdin=content)
        return True

    def forget_all_but(self, keep: list[Layout]) -> None:
        """Drops every other image; layers that the kept ones share stay."""
        kept = {layout.digest for layout in keep}
        listed = [line.split() for line in self._run("images", "ls").splitlines()[1:]]
        old = [name for name, _, digest, *_ in listed if digest not in kept]
        if old:
            self._run("images", "rm", *old)

    def _run(self, *arguments: str, stdin: IO[bytes] | None = None) -> str:
        done = subprocess.run(
            [*self.ctr, *arguments],
            stdin=stdin or subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise ClusterError(f"ctr {' '.join(arguments[:2])} failed: {done.stderr.strip()}")
        return done.stdout


def _fill(archive: tarfile.TarFile, layout: Layout, blobs: Iterable[str]) -> None:
    manifest = layout.blobs[layout.digest]
    entries = [
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": layout.digest,
            "size": manifest.stat().st_size,
            "annotations": {"io.containerd.image.name": name},
        }
        for name in (layout.name, layout.reference)
    ]
    index = {"schemaVersion": 2, "manifests": entries}
    _text(archive, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}))
    _text(archive, "index.json", json.dumps(index))
    for blob in {*blobs, layout.digest}:
        archive.add(layout.blobs[blob], f"blobs/{blob.replace(':', '/')}")


def _text(archive: tarfile.TarFile, name: str, content: str) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content.encode())
    archive.addfile(info, io.BytesIO(content.encode()))
