"""Addresses of objects, `s3://bucket/key`.

Two spellings of one address must never name two journals, so what cannot be normalised without
guessing is refused.
"""

import re
from dataclasses import dataclass

from palimpsest.api.base import JOURNAL_ROOT

MAX_KEY = 1024

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_SEGMENT = re.compile(r"[A-Za-z0-9._=+@:,~-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class S3Uri:
    """A bucket and a key; the key has no leading slash and may be empty."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def parse_uri(uri: str) -> S3Uri:
    """Split `s3://bucket/key`. Raises ValueError with the remedy."""
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme.lower() != "s3":
        raise ValueError(f"uri {uri!r}: write it as s3://bucket/prefix/")
    bucket, _, key = rest.partition("/")
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise ValueError(
            f"uri {uri!r}: {bucket!r} is no bucket name (3 to 63 lower-case letters, digits, "
            "dots and hyphens)"
        )
    if len(key.encode(errors="replace")) > MAX_KEY:
        raise ValueError(f"uri: the key is longer than {MAX_KEY} bytes")
    if _CONTROL.search(key):
        raise ValueError(f"uri {uri!r}: the key holds a control character")
    return S3Uri(bucket, key)


def canonical_prefix(uri: str) -> str:
    """The one spelling of a data prefix: `s3://bucket/a/b/`.

    The case of the scheme and a missing last slash are normalised; everything that S3 would take
    for another key (percent-encoding, empty, `.` or `..` segments) is refused with ValueError.
    """
    parsed = parse_uri(uri)
    if "%" in parsed.key:
        raise ValueError(f"uri {uri!r}: percent-encoding is not decoded; write the key itself")
    if not parsed.key.strip("/"):
        raise ValueError(
            f"uri {uri!r}: name a prefix below the bucket, as in s3://{parsed.bucket}/data/; "
            "the journal lies beside it and must stay out of its listing"
        )
    segments = parsed.key.removesuffix("/").split("/")
    for segment in segments:
        if not segment:
            raise ValueError(f"uri {uri!r}: remove the empty segment between two slashes")
        if segment in (".", ".."):
            raise ValueError(f"uri {uri!r}: {segment!r} is no directory to S3; write the full key")
        if not _SEGMENT.fullmatch(segment):
            raise ValueError(
                f"uri {uri!r}: {segment!r} may hold only letters, digits and . _ = + @ : , ~ -"
            )
    if segments[0] == JOURNAL_ROOT:
        raise ValueError(f"uri {uri!r}: {JOURNAL_ROOT}/ is kept for journals")
    return f"s3://{parsed.bucket}/{'/'.join(segments)}/"
