"""Published artifacts: every digest that a manifest states is computed again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.checker.bucket import Bucket, CheckError, sha256


@dataclass(frozen=True)
class Artifact:
    """A manifest and where it lies; `prefix` ends in a slash."""

    prefix: str
    digest: str
    manifest: dict[str, Any]

    @property
    def stage(self) -> str:
        """The stage that made it."""
        return str(self.manifest["parameters"]["stage"])

    @property
    def subject(self) -> tuple[str, str, str]:
        """Namespace, kind and name of the resource it belongs to."""
        subject = self.manifest["subject"]
        return subject["namespace"], subject["kind"], subject["name"]

    def entry(self, name: str) -> dict[str, Any]:
        """The manifest's line of the file called `name`. Raises CheckError."""
        for file in self.manifest["files"]:
            if file["path"].rsplit("/", 1)[-1] == name:
                line: dict[str, Any] = file
                return line
        raise CheckError(f"{self.prefix}: publishes no {name}")

    def read(self, bucket: Bucket, name: str) -> bytes:
        """A file's bytes, checked. Raises CheckError."""
        line = self.entry(name)
        data = bucket.get(self.prefix + line["path"])
        if sha256(data) != line["digest"]:
            raise CheckError(f"{self.prefix}{line['path']}: its digest is not the manifest's")
        return data

    def lines(self, bucket: Bucket, name: str) -> list[dict[str, Any]]:
        """The records of a JSONL file."""
        return [json.loads(line) for line in self.read(bucket, name).splitlines() if line.strip()]

    def folder(self, bucket: Bucket, target: Path) -> Path:
        """All files in a local folder, by their last names."""
        for file in self.manifest["files"]:
            name = file["path"].rsplit("/", 1)[-1]
            bucket.download(self.prefix + file["path"], file["digest"], target / name)
        return target


def find(bucket: Bucket, roots: list[str]) -> list[Artifact]:
    """Every artifact below the roots."""
    found = []
    for root in roots:
        for uri in bucket.list(root):
            if uri.endswith("/manifest.json"):
                data = bucket.get(uri)
                prefix = uri.removesuffix("manifest.json")
                found.append(Artifact(prefix, sha256(data), json.loads(data)))
    return found


def of_stage(artifacts: list[Artifact], stage: str, subject: tuple[str, str]) -> list[Artifact]:
    """The artifacts of one resource's stage, by place. `subject` is namespace and name."""
    chosen = [
        artifact
        for artifact in artifacts
        if artifact.stage == stage and (artifact.subject[0], artifact.subject[2]) == subject
    ]
    return sorted(chosen, key=lambda artifact: artifact.prefix)


def verify(bucket: Bucket, artifacts: list[Artifact]) -> list[str]:
    """What does not hold: files, sizes, inputs' digests. Empty if all is well."""
    wrong = []
    for artifact in artifacts:
        for file in artifact.manifest["files"]:
            data = bucket.get(artifact.prefix + file["path"])
            if (sha256(data), len(data)) != (file["digest"], file["size"]):
                wrong.append(f"{artifact.prefix}{file['path']}: digest or size differs")
        for name, given in artifact.manifest["inputs"].items():
            match given["kind"]:
                case "private":
                    if set(given) & {"digest", "etag", "size", "count", "version"}:
                        wrong.append(f"{artifact.prefix}: says more of private input {name}")
                case "model":
                    uri = given["uri"] + "palimpsest-model.json"
                    if sha256(bucket.get(uri)) != given["digest"]:
                        wrong.append(f"{uri}: digest differs from {artifact.stage}'s input")
                case "hub-model" | "claim-model":
                    # Not of this store; the stage held what it fetched against the digest.
                    continue
                case _:
                    if sha256(bucket.get(given["uri"])) != given["digest"]:
                        wrong.append(
                            f"{given['uri']}: digest differs from {artifact.stage}'s input"
                        )
    return wrong
