"""Where the commands read journals and releases: stores with the caller's own keys, or folders."""

import hashlib
import os
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from palimpsest.api.base import JOURNAL_ROOT
from palimpsest.api.common import Storage
from palimpsest.api.manifest import MANIFEST
from palimpsest.audit.releases import Release
from palimpsest.ledger.entries import MAX_BYTES
from palimpsest.ledger.nesting import entry, location
from palimpsest.ledger.reading import follow
from palimpsest.receipts.place import RECEIPT, receipt_uri
from palimpsest.storage import (
    AccessDenied,
    AccessKeys,
    NotFound,
    S3Store,
    StoreConfig,
    StoreError,
    canonical_prefix,
    load_keys,
    parse_uri,
)

_ACCESS, _SECRET = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
_THREADS = 8
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Access:
    """How the caller reaches stores; None where a resource's own storage block decides."""

    endpoint: str | None
    region: str | None
    virtual_hosts: bool | None
    ca_bundle: Path | None
    credentials: Path | None

    def store(self, storage: Storage | None = None) -> S3Store:
        """A client with the caller's keys. Raises StoreError saying what is missing."""
        path_style = storage.path_style if storage else True
        if self.virtual_hosts is not None:
            path_style = not self.virtual_hosts
        region = self.region or (storage.region if storage else None)
        return S3Store(
            StoreConfig(
                endpoint=self.endpoint or (storage.endpoint if storage else None),
                region=region or os.environ.get("AWS_REGION") or "us-east-1",
                path_style=path_style,
                ca_bundle=str(self.ca_bundle) if self.ca_bundle else None,
                credentials=self._keys(),
            )
        )

    def _keys(self) -> AccessKeys:
        if self.credentials is not None:
            try:
                return load_keys(self.credentials)
            except ValueError as error:
                raise StoreError(str(error)) from error
        keys = os.environ.get(_ACCESS, ""), os.environ.get(_SECRET, "")
        if not all(keys):
            raise StoreError(f"no keys: set {_ACCESS} and {_SECRET}, or give --credentials DIR")
        return AccessKeys(*keys)


def journal_uri(text: str) -> str:
    """The data's canonical URI, from that or from the address of the journal itself.

    Raises ValueError with the remedy.
    """
    place = parse_uri(text)
    head, _, rest = place.key.partition("/")
    if head != JOURNAL_ROOT:
        return canonical_prefix(text)
    inner, ledger, tail = rest.removesuffix("/").rpartition("ledger")
    if not ledger or tail:
        raise ValueError(f"uri {text!r}: a journal's folder ends in /ledger/")
    return canonical_prefix(f"s3://{place.bucket}/{inner}")


def read_journal(store: S3Store, data_uri: str) -> dict[str, bytes]:
    """All objects of a journal's folder, by name. Raises StoreError.

    Where listing is denied, entries are read up to the first that is not there.
    """
    folder = location(data_uri)
    try:
        names = [uri.removeprefix(folder) for uri in store.list(folder)]
    except AccessDenied:
        read = follow(lambda sequence: store.get(entry(data_uri, sequence)), 0)
        with closing(read) as entries:
            return {f"{number:012d}.json": data for number, data in enumerate(entries)}
    wanted = [name for name in names if name.endswith(".json") and "/" not in name]
    found = dict.fromkeys(names, b"")
    with ThreadPoolExecutor(_THREADS) as pool:
        found |= zip(wanted, pool.map(lambda name: store.get(folder + name), wanted), strict=True)
    return found


def read_folder(folder: Path) -> dict[str, bytes]:
    """The files of a folder copy of a journal, by name. Raises OSError."""
    found = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") if path.is_file() else tempfile.TemporaryFile() as file:
            # One byte more than an entry may have says that it is too long.
            found[path.name] = file.read(MAX_BYTES + 1)
    return found


def read_releases(store: S3Store, root: str) -> list[Release]:
    """Every manifest and receipt below a prefix. Raises StoreError."""
    listed = list(store.list(root))
    manifests = {uri for uri in listed if uri.endswith(f"/{MANIFEST}")}
    receipts = {uri for uri in listed if uri.endswith(f"/{RECEIPT}")}
    places = manifests | {uri.removesuffix(RECEIPT) + MANIFEST for uri in receipts}

    def release(uri: str) -> Release:
        receipt = receipt_uri(uri)
        return Release(
            uri,
            store.get(uri) if uri in manifests else None,
            store.get(receipt) if receipt in receipts else None,
        )

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(release, sorted(places)))


def read_release_folder(folder: Path, root: str) -> list[Release]:
    """The same from a copy of the prefix `root`. Raises OSError."""
    places = {path.parent for name in (MANIFEST, RECEIPT) for path in folder.rglob(name)}

    def read(path: Path) -> bytes | None:
        return path.read_bytes() if path.is_file() else None

    return [
        Release(
            f"{root}{_below(place, folder)}{MANIFEST}",
            read(place / MANIFEST),
            read(place / RECEIPT),
        )
        for place in sorted(places)
    ]


def _below(place: Path, folder: Path) -> str:
    inner = place.relative_to(folder).as_posix()
    return "" if inner == "." else f"{inner}/"


Digest = tuple[str, int]


def hash_objects(store: S3Store, uris: Iterable[str]) -> dict[str, Digest | None]:
    """(digest, size) of each object, None if it is not there. Raises StoreError."""
    found: dict[str, Digest | None] = {}
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "object"
        for uri in uris:
            try:
                store.download_file(uri, target)
            except NotFound:
                found[uri] = None
            else:
                found[uri] = hash_file(target)
    return found


def hash_file(path: Path) -> Digest | None:
    """(digest, size) of a file, None if it is not there."""
    hasher, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                hasher.update(chunk)
                size += len(chunk)
    except FileNotFoundError:
        return None
    return f"sha256:{hasher.hexdigest()}", size
