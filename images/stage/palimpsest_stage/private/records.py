"""Reading private records. A record that cannot be used contributes zero and the run goes on."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from palimpsest.api.task import PrivateInput
from palimpsest.storage import S3Store, canonical_prefix, parse_uri

from palimpsest_stage.distributed.shards import Shard

# A longer line is no instruction; without a bound one record could take all memory.
MAX_LINE = 1 << 20
# Bytes of a row group that may be read many rows at a time.
_GROUP = 64 << 20
_NO_FIELD = "no such text field"

# A record's text, None if it has none that can be used, and what was found.
Found = tuple[str | None, str]


def read_texts(
    store: S3Store,
    source: PrivateInput,
    scratch: Path,
    findings: Counter[str],
    shard: Shard | None = None,
) -> Iterator[str]:
    """The shard's usable records' texts, in the listing's order: a line or row is at most one text.

    `findings` counts the shard's records by what became of them; it stays in custody.
    """
    shard = shard or Shard()
    suffix, read = _READERS[source.format]
    local = scratch / f"private{suffix}"
    for uri in sorted(store.list(canonical_prefix(source.uri))):
        if not _key(uri).endswith(suffix):
            findings[f"objects ignored: not {suffix}"] += shard.rank == 0
            continue
        store.download_file(uri, local)
        for text, finding in read(local, source.text_field):
            if not shard.takes(text):
                continue
            findings[finding] += 1
            if text is not None:
                yield text
        local.unlink()


def _key(uri: str) -> str:
    """Empty for a name that no URI has: whoever puts such an object must not end a paid stage."""
    try:
        return parse_uri(uri).key
    except ValueError:
        return ""


def _read_jsonl(path: Path, field: str) -> Iterator[Found]:
    with path.open("rb") as file:
        for line in _lines(file):
            yield parse_record(line, field)


def _read_parquet(path: Path, field: str) -> Iterator[Found]:
    """Rows of a Parquet file; what follows a broken page or footer is lost."""
    import pyarrow as pa  # noqa: PLC0415 - for Parquet only
    from pyarrow import parquet  # noqa: PLC0415

    try:
        with parquet.ParquetFile(path, memory_map=True, buffer_size=MAX_LINE) as file:
            types = {column.name: column.type for column in file.schema_arrow}
            if not _is_text(types.get(field)):
                yield from ((None, _NO_FIELD) for _ in range(file.metadata.num_rows))
                return
            for group in range(file.num_row_groups):
                # One row at a time where rows may be huge: no more than one is then in memory.
                wide = file.metadata.row_group(group).total_byte_size > _GROUP
                batches = file.iter_batches(1 if wide else 1024, [group], [field])
                for batch in batches:
                    column = batch.column(0)
                    if pa.types.is_dictionary(column.type):
                        column = column.dictionary_decode()
                    # As bytes: one value of another encoding must not cost the rest.
                    for value in column.cast(pa.large_binary()):
                        yield _parse_value(value.as_py())
    except (pa.ArrowException, OSError):
        yield None, "objects cut short: not Parquet from here on"


def _is_text(kind: Any) -> bool:
    """Whether an Arrow type is that of strings; None is not."""
    from pyarrow import types  # noqa: PLC0415 - for Parquet only

    if kind is None:
        return False
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _parse_value(value: bytes | None) -> Found:
    if value is None:
        return None, _NO_FIELD
    if len(value) > MAX_LINE:
        return None, "too long"
    try:
        return _parse_text(value.decode("utf-8"))
    except UnicodeDecodeError:
        return None, "not UTF-8"


_READERS: dict[str, tuple[str, Callable[[Path, str], Iterator[Found]]]] = {
    "JSONL": (".jsonl", _read_jsonl),
    "Parquet": (".parquet", _read_parquet),
}


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Lines of a file; None for one that is too long."""
    while line := file.readline(MAX_LINE + 1):
        if len(line) <= MAX_LINE or line.endswith(b"\n"):
            yield line
            continue
        while (rest := file.readline(MAX_LINE)) and not rest.endswith(b"\n"):
            pass
        yield None


def parse_record(line: bytes | None, field: str) -> Found:
    """(text or None, what was found) of one line. Raises nothing, whatever the line holds."""
    if line is None:
        return None, "too long"
    if not line.strip():
        return None, "blank line"
    try:
        record = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return None, "not UTF-8"
    except (ValueError, RecursionError):
        return None, "not JSON"
    if not isinstance(record, dict) or not isinstance(record.get(field), str):
        return None, _NO_FIELD
    return _parse_text(record[field])


def _parse_text(text: str) -> Found:
    text = text.strip()
    if not text:
        return None, "empty"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return None, "lone surrogates"
    return text, "usable"
