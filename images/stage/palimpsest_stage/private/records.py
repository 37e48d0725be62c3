"""Reading private records. A record that cannot be used contributes zero and the run goes on."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from palimpsest.api.task import PrivateInput
from palimpsest.storage import S3Store, canonical_prefix, parse_uri

from palimpsest_stage.distributed.shards import Shard

# A longer line is no instruction; without a bound one record could take all memory.
MAX_LINE = 1 << 20


def read_texts(
    store: S3Store,
    source: PrivateInput,
    scratch: Path,
    findings: Counter[str],
    shard: Shard | None = None,
) -> Iterator[str]:
    """The shard's usable records' texts, in the listing's order: one line is at most one text.

    `findings` counts the shard's records by what became of them; it stays in custody.
    """
    shard = shard or Shard()
    local = scratch / "private.jsonl"
    for uri in sorted(store.list(canonical_prefix(source.uri))):
        if not parse_uri(uri).key.endswith(".jsonl"):
            findings["objects ignored: not .jsonl"] += shard.rank == 0
            continue
        store.download_file(uri, local)
        with local.open("rb") as file:
            for line in _lines(file):
                text, finding = parse_record(line, source.text_field)
                if not shard.takes(text):
                    continue
                findings[finding] += 1
                if text is not None:
                    yield text
        local.unlink()


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Lines of a file; None for one that is too long."""
    while line := file.readline(MAX_LINE + 1):
        if len(line) <= MAX_LINE or line.endswith(b"\n"):
            yield line
            continue
        while (rest := file.readline(MAX_LINE)) and not rest.endswith(b"\n"):
            pass
        yield None


def parse_record(line: bytes | None, field: str) -> tuple[str | None, str]:
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
        return None, "no such text field"
    text: str = record[field].strip()
    if not text:
        return None, "empty"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return None, "lone surrogates"
    return text, "usable"
