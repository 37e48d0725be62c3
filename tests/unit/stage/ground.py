"""A store, a journal and tasks to run the stage program on, as its pods run it."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.fixtures import ObjectStore
from faults.behaviour import dying, once
from faults.proxy import Proxy
from palimpsest.api.manifest import File, Manifest
from palimpsest.api.task import (
    SCRATCH_VARIABLE,
    ArtifactInput,
    ChargeRef,
    FileInput,
    Input,
    ModelInput,
    MountedKeys,
    Output,
    Parameters,
    PrivateInput,
    SelectParameters,
    StoreAccess,
    Subject,
    Task,
    sha256_digest,
    work_digest,
)
from palimpsest.ledger import DataIdentity, Journal, LimitBody, charge_id
from palimpsest.ledger import Subject as LedgerSubject
from palimpsest.privacy.mechanisms import Mechanism
from palimpsest.storage import AccessKeys, S3Store, StoreConfig

FIELD = "question"


@dataclass
class Ended:
    """How a stage's process ended."""

    code: int
    said: str
    outcome: str


@dataclass
class Ground:
    """Runs stages against an object store; `data` is the private prefix."""

    endpoint: str
    folder: Path
    keys: dict[str, tuple[str, str]]
    data: str
    records: int
    pods: int = 0
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def on(cls, store: ObjectStore, folder: Path, name: str, records: int) -> "Ground":
        keys = {n: (c.access_key, c.secret_key) for n, c in store.credentials.items()}
        return cls(store.endpoint, folder, keys, f"s3://private/{name}/", records)

    def store(self, account: str) -> S3Store:
        keys = AccessKeys(*self.keys[account])
        return S3Store(StoreConfig(self.endpoint, "us-east-1", True, None, keys))

    def journal(self) -> Journal:
        return Journal(self.store("operator"), self.data)

    def open_journal(self, epsilon: str = "100", delta: str = "1e-5", order: int = 4) -> None:
        data = DataIdentity(
            uri=self.data,
            format="JSONL",
            textField=FIELD,
            records=self.records,
            privacyUnit="Record",
        )
        self.journal().open(data, LimitBody(epsilon=epsilon, delta=delta), order)

    def push_model(self, folder: Path, uri: str) -> ModelInput:
        files = []
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            data, name = path.read_bytes(), path.relative_to(folder).as_posix()
            self.store("root").put(uri + name, data)
            files.append({"path": name, "digest": sha256_digest(data), "size": len(data)})
        listing = json.dumps({"version": 1, "files": files}).encode()
        self.store("root").put(f"{uri}palimpsest-model.json", listing)
        return ModelInput(store="models", uri=uri, digest=sha256_digest(listing))

    def push_records(self, lines: list[bytes], name: str = "records.jsonl") -> PrivateInput:
        self.store("root").put(self.data + name, b"".join(line + b"\n" for line in lines))
        return PrivateInput(store="private", uri=self.data, format="JSONL", text_field=FIELD)

    def push_rows(self, name: str, rows: list[dict[str, Any]]) -> ArtifactInput:
        """Rows as an earlier stage published them."""
        return self.push_artifact(
            {name: b"".join(json.dumps(row).encode() + b"\n" for row in rows)}
        )

    def push_artifact(
        self,
        files: dict[str, bytes],
        parameters: Parameters | None = None,
        inputs: dict[str, Input] | None = None,
        charge: str | None = None,
    ) -> ArtifactInput:
        """Files as an earlier stage published them; a place for each content.

        Stages of the same parameters are shards of one.
        """
        listed = [
            File(path=f"attempts/1/{name}", digest=sha256_digest(data), size=len(data))
            for name, data in files.items()
        ]
        place = sha256_digest(repr(listed).encode())[7:23]
        prefix = f"s3://outputs/artifact-{place}/"
        manifest = Manifest(
            subject=Subject(namespace="team", kind="SyntheticDataset", name="quick"),
            task=sha256_digest(repr(parameters or place).encode()),
            parameters=parameters or SelectParameters(size=1),
            inputs=inputs or {},
            files=listed,
            charge=charge,
            attempt="1",
        )
        told = manifest.model_dump_json(by_alias=True).encode()
        for name, data in files.items():
            self.store("root").put(f"{prefix}attempts/1/{name}", data)
        self.store("root").put(f"{prefix}manifest.json", told)
        uri = f"{prefix}manifest.json"
        return ArtifactInput(store="outputs", uri=uri, digest=sha256_digest(told))

    def artifact(self, output: Output) -> ArtifactInput:
        uri = f"{output.uri}manifest.json"
        data = self.store("root").get(uri)
        return ArtifactInput(store=output.store, uri=uri, digest=sha256_digest(data))

    def file(self, output: Output, name: str) -> FileInput:
        manifest = self.manifest(output)
        file = manifest.file(name)
        return FileInput(store=output.store, uri=output.uri + file.path, digest=file.digest)

    def manifest(self, output: Output) -> Manifest:
        return Manifest.model_validate_json(self.store("root").get(f"{output.uri}manifest.json"))

    def read(self, output: Output, name: str) -> bytes:
        return self.store("root").get(output.uri + self.manifest(output).file(name).path)

    def task(self, parameters: Parameters, inputs: dict[str, Input], store: str) -> Task:
        """A task that publishes to bucket `store`; private input makes it a charged one."""
        subject = Subject(namespace="team", kind="PrivateGenerator", name="quick")
        private = any(isinstance(one, PrivateInput) for one in inputs.values())
        secret = "custodian" if private else "tenant"
        buckets = ["private", "releases", "models", "outputs"]
        digest = work_digest(subject, parameters, inputs)
        charge = None
        if private:
            name = charge_id(self.data, subject.namespace, subject.kind, subject.name, digest)
            charge = ChargeRef(id=name, journal=self.data, store="private")
        return Task(
            subject=subject,
            parameters=parameters,
            stores={
                bucket: StoreAccess(
                    endpoint=self.endpoint,
                    region="us-east-1",
                    path_style=True,
                    credentials=MountedKeys(secret=secret),
                )
                for bucket in buckets
            },
            inputs=inputs,
            output=Output(store=store, uri=f"s3://{store}/run/{parameters.stage}-{digest[7:23]}/"),
            charge=charge,
        )

    def reserve(
        self, task: Task, mechanism: Mechanism, restarts: int = 0, block_steps: int = 1
    ) -> None:
        subject = LedgerSubject(
            namespace=task.subject.namespace,
            kind=task.subject.kind,
            name=task.subject.name,
            cluster="test",
        )
        digest = work_digest(task.subject, task.parameters, task.inputs)
        charge = self.journal().reserve(subject, digest, mechanism, restarts, block_steps)
        assert task.charge is not None
        assert charge.id == task.charge.id

    def environment(self, task: Task, attempt: int = 1) -> dict[str, str]:
        """What a pod of its own would find; makes its folders."""
        self.pods += 1
        home = self.folder / f"pod-{self.pods}"
        (home / "scratch").mkdir(parents=True)
        for name, (access, secret) in self.keys.items():
            folder = home / "secrets" / name
            folder.mkdir(parents=True)
            (folder / "AWS_ACCESS_KEY_ID").write_text(access)
            (folder / "AWS_SECRET_ACCESS_KEY").write_text(secret)
        for name, values in self.secrets.items():
            (home / "secrets" / name).mkdir()
            for key, value in values.items():
                (home / "secrets" / name / key).write_text(value)
        return {
            "PALIMPSEST_TASK": task.model_dump_json(by_alias=True),
            "PALIMPSEST_ATTEMPT": str(attempt),
            "POD_NAME": f"pod-{self.pods}",
            "PALIMPSEST_SCRATCH": str(home / "scratch"),
            "PALIMPSEST_CREDENTIALS_ROOT": str(home / "secrets"),
            "PALIMPSEST_TERMINATION_LOG": str(home / "termination-log"),
        }

    def start(
        self,
        task: Task,
        attempt: int = 1,
        program: list[str] | None = None,
        room: int | None = None,
        more: dict[str, str] | None = None,
    ) -> "Running":
        """Run the stage program in a process of its own, with `room` bytes of scratch.

        `more` is added to its environment.
        """
        variables = self.environment(task, attempt) | (more or {})
        if room is not None:
            variables[SCRATCH_VARIABLE] = str(room)
        home = Path(variables["PALIMPSEST_SCRATCH"]).parent
        output = home / "output"
        stage = [str(Path(sys.executable).with_name("palimpsest-stage"))]
        with output.open("wb") as sink:
            process = subprocess.Popen(
                program or stage,
                stdout=sink,
                stderr=sink,
                cwd=home,
                env={**os.environ, **variables},
            )
        return Running(process, output, home / "termination-log")

    def run(self, task: Task, attempt: int = 1, more: dict[str, str] | None = None) -> Ended:
        return self.start(task, attempt, more=more).wait()

    def killed_after(self, task: Task, write: str, nth: int = 0) -> None:
        """Run the stage until the nth write, from 0, to a path that holds `write` is done."""
        with Proxy(self.endpoint) as proxy:
            stores = {
                name: access.model_copy(update={"endpoint": proxy.endpoint})
                for name, access in task.stores.items()
            }
            running = self.start(task.model_copy(update={"stores": stores}))
            # Set long before the process has loaded its libraries.
            deadly = dying(running.process.kill, "after")
            proxy.watch(once(lambda call: call.writes and write in call.path, deadly, nth))
            ended = running.wait()
        assert ended.code == -signal.SIGKILL, ended.said

    def reports(self) -> list[dict[str, Any]]:
        """What the attempts told the custodian."""
        root = self.journal().location.removesuffix("ledger/") + "reports/"
        store = self.store("custodian")
        return [json.loads(store.get(uri)) for uri in store.list(root)]

    def entries(self) -> list[dict[str, Any]]:
        """The journal's entries, in order."""
        place = self.journal().location
        return [json.loads(self.store("root").get(uri)) for uri in self.store("root").list(place)]


@dataclass
class Running:
    """A stage's process."""

    process: subprocess.Popen[bytes]
    output: Path
    termination: Path

    def wait(self) -> Ended:
        code = self.process.wait(timeout=600)
        outcome = ""
        if self.termination.exists():
            outcome = json.loads(self.termination.read_text())["outcome"]
        return Ended(code, self.output.read_text(errors="replace"), outcome)
