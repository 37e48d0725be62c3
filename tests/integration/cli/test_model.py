"""`palimpsest model push` to a real store, and the models that are pinned to what it says."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from cluster.fixtures import ObjectStore
from demo.checker.bucket import Access, Bucket
from demo.checker.models import fetch_model

Done = subprocess.CompletedProcess[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder with all that does not belong to it."""
    files = {
        "config.json": "{}",
        "tokenizer.json": '{"model": 1}',
        "model-00001-of-00002.safetensors": "first",
        "model-00002-of-00002.safetensors": "second",
        "1_Pooling/config.json": "{}",
        "pytorch_model.bin": "a pickle",
        "modeling_custom.py": "import os",
        ".git/config": "[core]",
        "palimpsest-model.json": "an older listing",
    }
    for name, text in files.items():
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "model"


@pytest.fixture
def uri() -> str:
    return f"s3://models/pushed-{secrets.token_hex(4)}/"


def push(store: ObjectStore, folder: Path, uri: str, *more: str, account: str = "root") -> Done:
    keys = store.credentials[account]
    return subprocess.run(
        [
            *(Path(sys.executable).parent / "palimpsest", "model", "push", folder, uri),
            *("--endpoint", store.endpoint, *more),
        ],
        env={
            **os.environ,
            "AWS_ACCESS_KEY_ID": keys.access_key,
            "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def bucket(store: ObjectStore) -> Bucket:
    keys = store.credentials["root"]
    return Bucket(Access(store.endpoint, "us-east-1", keys.access_key, keys.secret_key))


def test_what_is_pushed_can_be_pinned_and_read(
    object_store: ObjectStore, folder: Path, uri: str, tmp_path: Path
) -> None:
    done = push(object_store, folder, uri.removesuffix("/"), "-o", "json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["uri"] == uri
    here = bucket(object_store)
    listing = here.get(f"{uri}palimpsest-model.json")
    assert told["digest"] == f"sha256:{hashlib.sha256(listing).hexdigest()}"
    fetch_model(here, uri, told["digest"], tmp_path / "back")
    names = {
        "1_Pooling/config.json",
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "tokenizer.json",
    }
    assert {name.removeprefix(uri) for name in here.list(uri)} == {*names, "palimpsest-model.json"}
    for name in names:
        assert (tmp_path / "back" / name).read_bytes() == (folder / name).read_bytes()


def test_again_changes_nothing_and_another_model_is_refused(
    object_store: ObjectStore, folder: Path, uri: str
) -> None:
    first = push(object_store, folder, uri)
    assert first.returncode == 0, first.stderr
    again = push(object_store, folder, uri)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    here = bucket(object_store)
    before = {name: here.get(name) for name in here.list(uri)}
    (folder / "model-00001-of-00002.safetensors").write_text("other")
    other = push(object_store, folder, uri)
    assert other.returncode == 1
    assert "lists another model" in other.stderr
    assert "under another prefix" in other.stderr
    assert {name: here.get(name) for name in here.list(uri)} == before


@pytest.mark.parametrize(
    ("missing", "told"), [("config.json", "no config.json"), ("*.safetensors", "no *.safetensors")]
)
def test_a_folder_without_a_model_is_refused(
    object_store: ObjectStore, folder: Path, uri: str, missing: str, told: str
) -> None:
    for path in folder.glob(missing):
        path.unlink()
    done = push(object_store, folder, uri)
    assert done.returncode == 2
    assert told in done.stderr
    assert list(bucket(object_store).list(uri)) == []


@pytest.mark.parametrize("wrong", ["models/a/", "s3://models/", "s3://models/a/../b/"])
def test_an_address_that_is_none_is_refused(
    object_store: ObjectStore, folder: Path, wrong: str
) -> None:
    done = push(object_store, folder, wrong)
    assert done.returncode == 2
    assert "Invalid value for URI" in done.stderr


def test_keys_that_may_not_write_are_told_so(
    object_store: ObjectStore, folder: Path, uri: str
) -> None:
    done = push(object_store, folder, uri, account="tenant")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in done.stderr


def test_the_digest_is_said_without_a_store(
    object_store: ObjectStore, folder: Path, uri: str
) -> None:
    pushed = json.loads(push(object_store, folder, uri, "-o", "json").stdout)["digest"]
    program = Path(sys.executable).parent / "palimpsest"
    said = [
        subprocess.run(
            [program, "model", "digest", folder, *more], capture_output=True, text=True, check=True
        ).stdout
        for more in ((), ("-o", "json"))
    ]
    assert said == [f"{pushed}\n", f'{{"digest": "{pushed}"}}\n']
    (folder / "config.json").unlink()
    refused = subprocess.run(
        [program, "model", "digest", folder], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "no config.json" in refused.stderr
