"""A model's folder: which of its files count, and the listing whose digest pins them."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from palimpsest.api.manifest import MODEL_LISTING, File
from palimpsest.api.task import canonical_json

# Stages load safetensors alone and run no code of a folder: pickles and scripts are of no use to
# them, and would be a way to bring code to where private records are.
LEFT_OUT = frozenset(
    {".bin", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".pkl", ".pt", ".pth", ".py"}
)


def model_files(folder: Path) -> list[Path]:
    """The files that make the model, in order. Raises ValueError where they make none."""
    chosen = sorted(_files(folder))
    if folder / "config.json" not in chosen:
        raise ValueError(f"{folder} holds no config.json")
    if not any(path.suffix == ".safetensors" for path in chosen):
        raise ValueError(
            f"{folder} holds no *.safetensors; write the weights with "
            "model.save_pretrained(..., safe_serialization=True)"
        )
    return chosen


def described(folder: Path, path: Path) -> File:
    """A file's line in the listing."""
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return File(
        path=path.relative_to(folder).as_posix(),
        digest=f"sha256:{digest}",
        size=path.stat().st_size,
    )


def listing(files: list[File]) -> bytes:
    """The bytes of palimpsest-model.json, whose digest pins the model."""
    return canonical_json({"files": [file.model_dump() for file in files]})


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        place = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in place.parts)
        left_out = path.suffix.lower() in LEFT_OUT or place.as_posix() == MODEL_LISTING
        if path.is_file() and not hidden and not left_out:
            yield path
