"""What every stage has: its task, its stores, verified public inputs, and one way to publish."""

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from palimpsest.api.manifest import MANIFEST, File, Manifest
from palimpsest.api.task import (
    CACHE_VARIABLE,
    CLAIMS,
    CREDENTIALS_ROOT,
    SCRATCH,
    SCRATCH_VARIABLE,
    TOKEN_FILE,
    ArtifactInput,
    ChargeRef,
    ClaimModelInput,
    FileInput,
    HubModelInput,
    ModelInput,
    MountedKeys,
    SampleParameters,
    StoreAccess,
    Task,
    canonical_json,
    work_digest,
)
from palimpsest.api.task import WebIdentity as RoleIdentity
from palimpsest.storage import (
    AccessDenied,
    AccessKeys,
    S3Store,
    StoreConfig,
    StoreUnavailable,
    WebIdentity,
    load_keys,
)
from pydantic import ValidationError

from palimpsest_stage import fit, sources
from palimpsest_stage.cache import ModelCache, copied
from palimpsest_stage.distributed.group import ALONE, Group
from palimpsest_stage.errors import InputMismatch, InvalidTask
from palimpsest_stage.inputs import download, file_digest, verified

PROGRESS_SECONDS = 3.0

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass
class Stores:
    """The task's object stores, each opened at its first use."""

    task: Task
    credentials: Path
    scratch: Path
    _open: dict[str, S3Store] = field(default_factory=dict)

    def __getitem__(self, name: str) -> S3Store:
        if name not in self._open:
            access = self.task.stores.get(name)
            if access is None:
                raise InvalidTask(f"stores: {name} is not among them")
            self._open[name] = S3Store(
                StoreConfig(
                    endpoint=access.endpoint,
                    region=access.region,
                    path_style=access.path_style,
                    ca_bundle=self._ca_bundle(name, access),
                    credentials=self._entry(access.credentials),
                    encryption=access.sse,
                )
            )
        return self._open[name]

    def _entry(self, given: MountedKeys | RoleIdentity) -> AccessKeys | WebIdentity:
        if isinstance(given, MountedKeys):
            try:
                return load_keys(self.credentials / given.secret)
            except ValueError as error:
                # A Secret without the keys is mended like one with wrong keys.
                raise AccessDenied(str(error)) from error
        token = self.credentials / given.folder / TOKEN_FILE
        return WebIdentity(given.role_arn, token, given.token_endpoint)

    def _ca_bundle(self, name: str, access: StoreAccess) -> str | None:
        if access.ca_bundle is None:
            return None
        self.scratch.mkdir(parents=True, exist_ok=True)
        path = self.scratch / f"store-{name}.pem"
        path.write_text(access.ca_bundle, encoding="utf-8")
        return str(path)


class Context:
    """One attempt at one task: one shard of it, if the stage is sharded; as one rank of `group`."""

    def __init__(self, task: Task, environment: Mapping[str, str], group: Group = ALONE) -> None:
        """Raises InvalidTask if the pod's environment does not fit the task."""
        self.task, self.group = task, group
        try:
            self.attempt_number = int(environment.get("PALIMPSEST_ATTEMPT", "1"))
            self._room = float(environment.get(SCRATCH_VARIABLE, "inf"))
            self.shard = int(environment.get("JOB_COMPLETION_INDEX", "0"))
        except ValueError as error:
            raise InvalidTask("the pod's environment: not a number") from error
        self.attempt = f"{self.attempt_number}-{environment.get('POD_NAME', 'pod')}"
        self._pod_scratch = Path(environment.get("PALIMPSEST_SCRATCH", SCRATCH))
        alone = group.size == 1
        self.scratch = self._pod_scratch if alone else self._pod_scratch / f"rank-{group.rank}"
        credentials = Path(environment.get("PALIMPSEST_CREDENTIALS_ROOT", CREDENTIALS_ROOT))
        self.stores = Stores(task, credentials, self.scratch)
        self._claims = Path(environment.get("PALIMPSEST_CLAIMS", CLAIMS))
        cache = environment.get(CACHE_VARIABLE)
        self._cache = ModelCache(Path(cache)) if cache else None
        self.prefix = task.output.uri
        if isinstance(task.parameters, SampleParameters):
            if self.shard >= task.parameters.shards:
                raise InvalidTask("JOB_COMPLETION_INDEX is beyond the number of shards")
            self.prefix += f"shards/{self.shard}/"
        self._reported = 0.0

    def parameters(self, kind: type[T]) -> T:
        """The stage's parameters. Raises InvalidTask if they are another stage's."""
        found = self.task.parameters
        if not isinstance(found, kind):
            raise InvalidTask(f"parameters: {kind.__name__} are needed")
        return found

    @property
    def charge(self) -> ChargeRef:
        """The reservation that pays for a private stage. Raises InvalidTask if there is none."""
        if self.task.charge is None:
            raise InvalidTask("charge: a private stage needs one")
        return self.task.charge

    @property
    def output(self) -> S3Store:
        """The store that the result goes to."""
        return self.stores[self.task.output.store]

    @cached_property
    def digest(self) -> str:
        """Digest of the work: the same for every attempt at it."""
        return work_digest(self.task.subject, self.task.parameters, self.task.inputs)

    def seed(self, purpose: str) -> int:
        """A public 63-bit seed, equal in every attempt. Never for private data."""
        text = f"{self.digest}/{self.shard}/{purpose}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def input(self, name: str, kind: type[T]) -> T:
        """The input called so. Raises InvalidTask if it is absent or of another kind."""
        found = self.task.inputs.get(name)
        if not isinstance(found, kind):
            raise InvalidTask(f"inputs: {name} must be given as {kind.__name__}")
        return found

    def folder(self, name: str) -> Path:
        """A folder of its own below the scratch volume."""
        path = self.scratch / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def model(self, name: str) -> Path:
        """A model's folder, not to be written to, every file verified; one a pod.

        Raises InputMismatch, NoRoom if it is too large for where it must lie, and ModelTooLarge,
        before its weights are fetched, if it is for memory.
        """
        target = self._pod_scratch / "inputs" / name
        # Ranks share what lies in scratch only, as every model of a private stage does.
        found = self._fetched(name, target) if self.group.first_in_pod else target
        self.group.barrier()
        return found

    def _fetched(self, name: str, target: Path) -> Path:
        model = self.task.inputs.get(name)
        fits = partial(fit.check, self.task.parameters, name)
        if isinstance(model, ClaimModelInput):
            return sources.claimed(model, fits, self._claims)
        fetch: Callable[[Path, float], None]
        if isinstance(model, HubModelInput):
            token = self.stores.credentials / model.token_secret if model.token_secret else None
            fetch = partial(sources.from_hub, model, token, fits)
        elif isinstance(model, ModelInput):
            fetch = partial(sources.from_store, model, self.stores[model.store], fits)
        else:
            raise InvalidTask(f"inputs: {name} must be given as a model")
        cached = None
        if self._cache:
            cached = self._cache.folder(model.digest, lambda place: fetch(place, math.inf))
        if cached is not None:
            # Of one that was there already nobody asked.
            fits(cached, sources.weights_size(cached))
            if self.task.charge is None:
                return cached
        target.mkdir(parents=True, exist_ok=True)
        # Beside private data what was checked is what is loaded: scratch is nobody else's.
        if cached is None or not copied(cached, target, model.digest, self._room):
            fetch(target, self._room)
        return target

    def artifact(self, name: str, *only: str) -> Path:
        """A folder with an artifact's files by their last names, verified. Raises InputMismatch.

        `only` names those to fetch; left out: all.
        """
        artifact, manifest = self.manifest(name)
        store, target = self.stores[artifact.store], self.folder(f"inputs/{name}")
        prefix = artifact.uri.removesuffix(MANIFEST)
        for file in manifest.files:
            if not only or file.path.rsplit("/", 1)[-1] in only:
                download(store, prefix, file, target, flat=True)
        return target

    def manifest(self, name: str) -> tuple[ArtifactInput, Manifest]:
        """An artifact and its manifest, verified. Raises InputMismatch."""
        artifact = self.input(name, ArtifactInput)
        return artifact, self.read_manifest(artifact)

    def read_manifest(self, artifact: ArtifactInput) -> Manifest:
        """An artifact's manifest, verified. Raises InputMismatch."""
        data = verified(self.stores[artifact.store], artifact.uri, artifact.digest)
        try:
            return Manifest.model_validate_json(data)
        except ValidationError as error:
            raise InputMismatch(f"{artifact.uri}: the manifest cannot be read") from error

    def file(self, name: str) -> Path:
        """A public file, verified. Raises InputMismatch."""
        file = self.input(name, FileInput)
        path = self.folder("inputs") / name
        path.write_bytes(verified(self.stores[file.store], file.uri, file.digest))
        return path

    def instructions(self, *names: str) -> list[dict[str, Any]]:
        """Rows of the inputs called so or `<name>-<index>`, in order. Raises InvalidTask."""
        return list(self.rows(*names))

    def rows(self, *names: str) -> "Rows":
        """The same rows, read anew each time one goes over them."""
        given = sorted(
            (name for name in self.task.inputs if name in names or _base(name) in names),
            key=lambda name: (len(name), name),
        )
        if not given:
            raise InvalidTask(f"inputs: one of {', '.join(names)} must be given")
        return Rows([_rows_file(self.artifact(name)) for name in given])

    def published(self) -> bool:
        """Whether an attempt has already published the result."""
        return self.output.exists(f"{self.prefix}{MANIFEST}")

    def publish(self, files: Mapping[str, Path], figures: Mapping[str, int] | None = None) -> None:
        """Upload the files, then the manifest; the first manifest wins and is the result.

        `figures` stand in the manifest itself, for the operator to tell; never of private data.
        """
        entries = []
        for name, path in sorted(files.items()):
            place = f"attempts/{self.attempt}/{name}"
            self.output.upload_file(path, f"{self.prefix}{place}")
            entries.append(File(path=place, digest=file_digest(path), size=path.stat().st_size))
        manifest = Manifest(
            subject=self.task.subject,
            task=self.digest,
            parameters=self.task.parameters,
            inputs=self.task.inputs,
            files=entries,
            figures=dict(figures or {}),
            charge=self.task.charge.id if self.task.charge else None,
            attempt=self.attempt,
        )
        data = canonical_json(manifest.model_dump(by_alias=True, mode="json"))
        self.output.put_if_absent(f"{self.prefix}{MANIFEST}", data)

    def progress(
        self,
        done: int,
        total: int,
        unit: str,
        tokens: int = 0,
        last: bool = False,
        figures: Mapping[str, float] | None = None,
    ) -> None:
        """Tell how far the stage is, at most every few seconds. Never from a private stage.

        `last`: it goes no further, so it is told at once. `figures` are of the last step.
        """
        if self.task.charge is not None:
            raise InvalidTask("a private stage tells no progress")
        now = time.monotonic()
        if now - self._reported >= PROGRESS_SECONDS or done == total or last:
            self._reported = now
            report = {"done": done, "total": total, "unit": unit}
            more = {"tokens": tokens, "figures": figures}
            data = canonical_json(report | {name: value for name, value in more.items() if value})
            try:
                self.output.put(f"{self.prefix}progress.json", data)
            except StoreUnavailable:
                # Told for show: what matters is put again, or fails by itself.
                log.warning("progress not told: the store does not answer")


def write_json(path: Path, value: Any) -> Path:
    """Write a value as readable JSON; returns the path."""
    path.write_text(
        json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n",
        encoding="utf-8",
    )
    return path


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write JSONL; returns the path."""
    with path.open("wb") as file:
        file.writelines(canonical_json(row) + b"\n" for row in rows)
    return path


ROWS = ("annotated.jsonl", "selected.jsonl", "instructions.jsonl", "data.jsonl")


@dataclass(frozen=True)
class Rows:
    """Rows that lie in JSONL files: too many, perhaps, to be held in memory."""

    files: list[Path]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for line in self._lines():
            yield json.loads(line)

    @cached_property
    def count(self) -> int:
        """How many there are."""
        return sum(1 for _ in self._lines())

    def _lines(self) -> Iterator[bytes]:
        for path in self.files:
            with path.open("rb") as file:
                yield from file


def _rows_file(folder: Path) -> Path:
    path = next((folder / name for name in ROWS if (folder / name).exists()), None)
    if path is None:
        raise InputMismatch(f"an artifact holds none of {', '.join(ROWS)}")
    return path


def _base(name: str) -> str:
    head, _, index = name.rpartition("-")
    return head if index.isdigit() else name
