"""Bad records contribute zero, and nobody outside can tell: the stage as a program."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from cluster.fixtures import ObjectStore
from palimpsest_stage.errors import Interrupted
from palimpsest_stage.text import encode
from pyarrow import parquet
from unit.stage.ground import FIELD, Ended, Ground
from unit.stage.tiny import LAYOUT, panicking, tiny_model, tiny_tokenizer
from unit.stage.training import RECORDS, reserved

# Its first byte's embedding is infinite in this file's model, so its gradient is NaN.
POISON = "\u00e9"
# This file's tokenizer tries more ways to match it than its engine allows, and panics.
PANIC = "a" * 40 + "b"
HUGE = 100_000_000
MEGABYTE = 1 << 20

Lines = list[bytes]


def good(count: int) -> Lines:
    return [json.dumps({FIELD: f"is it number {i} so"}).encode() for i in range(count)]


def bad() -> Lines:
    return [
        b"{not json",
        b"[1, 2]",
        b'{"other": "x"}',
        json.dumps({FIELD: None}).encode(),
        json.dumps({FIELD: " "}).encode(),
        json.dumps({FIELD: "long " * 100_000}).encode(),
        json.dumps({FIELD: "utf-16"}).encode("utf-16"),
        json.dumps({FIELD: "\ud800"}).encode(),
        b'{"%s": "\xff\xfe"}' % FIELD.encode(),
        b"[" * 100_000,
        *[json.dumps({FIELD: f"{POISON} {i}"}).encode() for i in range(20)],
        *[json.dumps({FIELD: PANIC}).encode()] * 2,
        b'{"%s": "%s"}' % (FIELD.encode(), b"x" * HUGE),
    ]


DATA: dict[str, Lines] = {
    "as declared": good(RECORDS),
    "none at all": [],
    "bad ones alone": bad(),
    "bad ones among more than declared": [*good(2 * RECORDS), *bad()],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("poisoned") / "model"
    model, tokenizer = tiny_model(tied=False), panicking(tiny_tokenizer())
    first = tokenizer(POISON)["input_ids"][0]
    with torch.no_grad():
        model.get_input_embeddings().weight[first] = torch.inf
    model.save_pretrained(made)
    tokenizer.save_pretrained(made)
    return made


def ran(store: ObjectStore, folder: Path, model: Path, lines: Lines) -> tuple[Ground, Any]:
    """The ground and all that is seen outside custody: names and sizes, words, manifest, journal.

    Digests of what noise made differ from run to run, and so does the data's own place.
    """
    ground = Ground.on(store, folder, folder.name.replace("_", "-"), RECORDS)
    ground.open_journal()
    private = ground.push_records(lines)
    task = reserved(ground, model, private, max_length=24, steps=2, block_steps=1)
    running = ground.start(task)
    ended: Ended = running.wait()
    public = ground.store("root")
    objects = {
        uri.removeprefix(task.output.uri): public.get(uri) for uri in public.list(task.output.uri)
    }
    manifest = objects.pop("manifest.json").decode()
    said = re.sub(r"sha256:[0-9a-f]{64}|[0-9a-f]{64}", "digest", manifest)
    return ground, {
        "ended": (ended.code, ended.outcome, ended.said, running.termination.read_text()),
        "files": {name: len(data) for name, data in objects.items()},
        "manifest": said.replace(ground.data, "data"),
        "journal": [(e["kind"], sorted(e["body"])) for e in ground.entries()],
    }


def test_no_record_however_bad_shows_outside(
    object_store: ObjectStore, folder: Path, tmp_path: Path
) -> None:
    seen, reports = {}, {}
    for index, (name, lines) in enumerate(DATA.items()):
        place = tmp_path / f"bad-{index}"
        ground, seen[name] = ran(object_store, place, folder, lines)
        reports[name] = ground.reports()[-1]
    usual = seen["as declared"]
    assert usual["ended"][:2] == (0, "Completed")
    for name, other in seen.items():
        assert other == usual, name

    # The custodian is told.
    assert reports["as declared"]["records"] == {"usable": RECORDS}
    assert reports["as declared"]["gradients"] == {"not finite": 0}
    assert reports["none at all"]["records"] == {}
    found = reports["bad ones alone"]["records"]
    assert found == {
        "not JSON": 2,
        "no such text field": 3,
        "empty": 1,
        "not UTF-8": 2,
        "lone surrogates": 1,
        "too long": 1,
        "usable": 23,
    }
    # Each is in at a rate of 64/200, twice: none of twenty-one with probability 1e-7.
    assert reports["bad ones alone"]["gradients"]["not finite"] > 0


def test_a_panic_of_the_tokenizer_is_no_example_and_costs_no_other_record_its_own() -> None:
    tokenizer, plain = panicking(tiny_tokenizer()), tiny_tokenizer()
    assert encode(tokenizer, LAYOUT, PANIC) == []
    assert encode(tokenizer, LAYOUT, "is it so") == encode(plain, LAYOUT, "is it so") != []


@pytest.mark.parametrize("ends", [Interrupted, KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_is_no_record_s_fault(ends: type[BaseException]) -> None:
    def ended(*_: object, **__: object) -> None:
        raise ends

    with pytest.raises(ends):
        encode(ended, LAYOUT, "is it so")


PROGRAM = """
import resource, sys
from collections import Counter
from pathlib import Path
import pyarrow.parquet
from palimpsest.api.task import PrivateInput
from palimpsest_stage.private.records import read_texts

class Folder:
    def list(self, prefix):
        return [prefix + sys.argv[1]]
    def download_file(self, uri, path):
        Path(sys.argv[1]).rename(path)

kind = "Parquet" if sys.argv[1].endswith("parquet") else "JSONL"
source = PrivateInput(store="s", uri="s3://bucket/d/", format=kind, text_field="q")
found = Counter()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
texts = list(read_texts(Folder(), source, Path("."), found))
print(len(texts), found["too long"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_memory_is_bounded_by_one_record(tmp_path: Path, kind: str) -> None:
    # Four, so that two in memory at a time would show.
    texts = ["a", *("x" * HUGE for _ in range(4)), "b"]
    file = tmp_path / f"records.{kind}"
    if kind == "jsonl":
        file.write_text("".join(f'{{"q": "{text}"}}\n' for text in texts))
    else:
        table = pa.table({"q": texts})
        parquet.write_table(table, file, compression="none", use_dictionary=False)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, file.name],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    usable, long, kilobytes = map(int, done.stdout.split())
    assert (usable, long) == (2, 4)
    # A line is cut at a megabyte. A Parquet value comes whole, in a page, a column and a value.
    assert kilobytes * 1024 < (50 * MEGABYTE if kind == "jsonl" else 3.9 * HUGE)
