"""Marked records, and the forms in which one could show where it must not."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

HUGE = 1_234_577


@dataclass(frozen=True)
class Canaries:
    """Files of marked records: a name of each file, its bytes, and the marks."""

    files: dict[str, bytes]
    marks: tuple[str, ...]

    @property
    def forms(self) -> dict[bytes, str]:
        """What is searched for, and what finding it would mean."""
        found = {mark.encode(): "a record's text" for mark in self.marks}
        for name, data in self.files.items():
            found |= dict.fromkeys(_digests(data), f"a digest of {name}")
            found[str(len(data)).encode()] = f"the size of {name}"
            for line in data.splitlines():
                found |= dict.fromkeys(_digests(line), f"a digest of a record of {name}")
                if len(line) > 100_000:
                    found[str(len(line)).encode()] = f"the size of a record of {name}"
        return found


def leaks(places: dict[str, bytes], canaries: Canaries) -> list[str]:
    """Where a form of a record shows, and which."""
    return [
        f"{place}: {meaning}"
        for place, data in places.items()
        for form, meaning in canaries.forms.items()
        if form in data
    ]


def drawn() -> Canaries:
    """Well-formed, twice the same, huge, and malformed in every way a file can be."""
    marks = [f"canary{secrets.token_hex(8)}" for _ in range(7)]
    plain, twice, huge, wrong, other, cut, bare = marks

    def record(text: str) -> bytes:
        return json.dumps({"instruction": text}).encode()

    lines = [
        record(f"What does {plain} mean?"),
        *[record(f"Where is {twice}?")] * 8,
        record(f"{huge} " * (HUGE // (len(huge) + 1))),
        json.dumps({"instruction": {"text": wrong}}).encode(),
        json.dumps({"question": other}).encode(),
        record(cut)[:-2],
        bare.encode() + b"\xff\xfe",
    ]
    # A size that no counter of the run could happen to show.
    padding = record("x" * (3_000_017 + secrets.randbelow(1_000_000)))
    return Canaries({"part-canaries.jsonl": b"\n".join([*lines, padding, b""])}, tuple(marks))


def _digests(data: bytes) -> Iterator[bytes]:
    for name in ("md5", "sha1", "sha256", "sha512"):
        digest = hashlib.new(name, data, usedforsecurity=False).digest()
        yield digest
        yield digest.hex().encode()
        yield base64.b64encode(digest).rstrip(b"=")
