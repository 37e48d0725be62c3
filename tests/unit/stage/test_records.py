"""Bad records contribute zero; nothing they hold stops the run."""

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytest
from palimpsest.api.task import PrivateInput
from palimpsest_stage.private import records
from palimpsest_stage.private.records import parse_record, read_texts
from pyarrow import parquet

TABLE: list[tuple[bytes | None, str | None, str]] = [
    (b'{"q": "is it so"}\n', "is it so", "usable"),
    (b'{"q": "  is it so \\n"}', "is it so", "usable"),
    ('{"q": "Käse?"}'.encode(), "Käse?", "usable"),
    (b"{not json", None, "not JSON"),
    (b'{"q": "cut', None, "not JSON"),
    (b"[" * 200_000, None, "not JSON"),
    (b'{"q": ' + b"9" * 5000 + b"}", None, "not JSON"),
    (b'["q"]', None, "no such text field"),
    (b'{"other": "x"}', None, "no such text field"),
    (b'{"q": 7}', None, "no such text field"),
    (b'{"q": null}', None, "no such text field"),
    (b'{"q": NaN}', None, "no such text field"),
    (b'{"q": "   "}', None, "empty"),
    (b'{"q": "\xff\xfe"}', None, "not UTF-8"),
    ('{"q": "x"}'.encode("utf-16"), None, "not UTF-8"),
    (b'{"q": "\\ud800"}', None, "lone surrogates"),
    (b"\n", None, "blank line"),
    (None, None, "too long"),
]


@pytest.mark.parametrize(("line", "text", "finding"), TABLE, ids=range(len(TABLE)))
def test_a_line(line: bytes | None, text: str | None, finding: str) -> None:
    assert parse_record(line, "q") == (text, finding)


class Folder:
    """A store's listing and download, out of memory."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = objects

    def list(self, prefix: str) -> list[str]:
        return [uri for uri in self.objects if uri.startswith(prefix)]

    def download_file(self, uri: str, path: Path) -> None:
        path.write_bytes(self.objects[uri])


def texts(
    objects: dict[str, bytes], folder: Path, kind: Literal["JSONL", "Parquet"] = "JSONL"
) -> tuple[list[str], Counter[str]]:
    source = PrivateInput(store="private", uri="s3://bucket/d/", format=kind, text_field="q")
    findings: Counter[str] = Counter()
    store: Any = Folder(objects)
    return list(read_texts(store, source, folder, findings)), findings


def test_a_line_that_is_too_long_loses_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MAX_LINE", 64)
    long = b'{"q": "' + b"x" * 1000 + b'"}\n'
    data = b'{"q": "a"}\n' + long + b'{"q": "b"}\n' + long[:-1]
    found, findings = texts({"s3://bucket/d/x.jsonl": data}, tmp_path)
    assert found == ["a", "b"]
    assert findings == {"usable": 2, "too long": 2}


def test_order_is_the_names_and_other_objects_are_left_alone(tmp_path: Path) -> None:
    found, findings = texts(
        {
            "s3://bucket/d/2.jsonl": b'{"q": "b"}',
            "s3://bucket/d/1.jsonl": b'{"q": "a"}\n\n',
            "s3://bucket/d/README.md": b"# not data",
            # No URI has such a key; it ends nothing that was paid for.
            "s3://bucket/d/0\n.jsonl": b'{"q": "d"}',
            "s3://bucket/other/3.jsonl": b'{"q": "c"}',
        },
        tmp_path,
    )
    assert found == ["a", "b"]
    assert (findings["usable"], findings["objects ignored: not .jsonl"]) == (2, 2)
    assert not (tmp_path / "private.jsonl").exists()


def test_no_records_is_no_error(tmp_path: Path) -> None:
    assert texts({}, tmp_path) == ([], Counter())


def a_parquet(column: pa.Array | pa.ChunkedArray, name: str = "q", rows: int = 2) -> bytes:
    """A file of small row groups."""
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table({name: column}), sink, row_group_size=rows)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def strings(values: list[bytes | None]) -> pa.Array:
    """A column of strings that nobody looked at whether they are UTF-8."""
    return pa.array(values, pa.binary()).view(pa.string())


def parquet_texts(data: bytes, folder: Path) -> tuple[list[str], Counter[str]]:
    return texts(
        {"s3://bucket/d/x.parquet": data, "s3://bucket/d/_SUCCESS": b""}, folder, "Parquet"
    )


@pytest.mark.parametrize("group", [records._GROUP, 0], ids=["by batch", "row by row"])
def test_a_parquet_row_is_at_most_one_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int
) -> None:
    monkeypatch.setattr(records, "_GROUP", group)
    monkeypatch.setattr(records, "MAX_LINE", 64)
    values = [b"a", None, b" ", b"\xff\xfe", b"x" * 65, "K\u00e4se? ".encode(), b"b\nc"]
    found, findings = parquet_texts(a_parquet(strings(values)), tmp_path)
    assert found == ["a", "K\u00e4se?", "b\nc"]
    assert findings == {
        "usable": 3,
        "no such text field": 1,
        "empty": 1,
        "not UTF-8": 1,
        "too long": 1,
        "objects ignored: not .parquet": 1,
    }


def test_parquet_strings_of_every_width_are_text_and_nothing_else_is(tmp_path: Path) -> None:
    plain = pa.array(["a", "b"])
    for column in (plain, plain.cast(pa.large_string()), plain.dictionary_encode()):
        assert parquet_texts(a_parquet(column), tmp_path)[0] == ["a", "b"]
    for other in (pa.array([1, 2]), pa.array([["a"], ["b"]]), pa.array([b"a", b"b"])):
        found, findings = parquet_texts(a_parquet(other), tmp_path)
        assert (found, findings["no such text field"]) == ([], 2)
    assert parquet_texts(a_parquet(plain, "other"), tmp_path)[1]["no such text field"] == 2


def test_a_broken_parquet_object_ends_there_and_the_run_goes_on(tmp_path: Path) -> None:
    whole = a_parquet(pa.array(["a", "b"]))
    broken = {"1": b"", "2": b"PAR1 no", "3": whole[:-20], "4": whole}
    objects = {f"s3://bucket/d/{name}.parquet": data for name, data in broken.items()}
    found, findings = texts(objects, tmp_path, "Parquet")
    assert found == ["a", "b"]
    assert findings["objects cut short: not Parquet from here on"] == 3
