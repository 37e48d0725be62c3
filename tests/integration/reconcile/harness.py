"""A world for the control loop: the real API server and store, the installed operator as a process.

There is no node, so a test plays the kubelet: it writes what a stage would have written (journal
entries, artifacts) with the stage's own keys, and pod statuses; the Job controller does the rest.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import yaml
from cluster.fixtures import ControlPlane, ObjectStore, free_ports
from integration.reconcile.kube import Kube, jobs_in, named, pods_in
from palimpsest.api.manifest import File, Manifest
from palimpsest.api.outcomes import EXIT_CODES, MESSAGES, Outcome
from palimpsest.api.task import (
    TASK_VARIABLE,
    SampleParameters,
    Task,
    TrainParameters,
    canonical_json,
    sha256_digest,
    work_digest,
)
from palimpsest.ledger.journal import Journal
from palimpsest.reconcile.reasons import REASONS
from palimpsest.storage import AccessKeys, S3Store, StoreConfig
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from securesystemslib.signer import CryptoSigner

CRDS = Path(__file__).parents[3] / "crds"
DIGEST = "sha256:" + "a" * 64
Json = dict[str, Any]

# What a stage says of its result in the manifest.
FIGURES = {"select": {"poolShortfall": 7, "poolThatWouldDo": 412}}


class World:
    """One custodian, one tenant, one operator."""

    def __init__(self, plane: ControlPlane, store: ObjectStore, folder: Path) -> None:
        self.plane = plane
        self.kube = Kube(plane.kubeconfig)
        self.object_store = store  # the operator's way to the store
        self.behind = store  # the test's own
        self._stores: dict[str, S3Store] = {}
        self.folder = folder
        self.mark = uuid.uuid4().hex[:6]
        self.custody = f"custody-{self.mark}"
        self.tenant = f"tenant-{self.mark}"
        self.budget = f"budget-{self.mark}"
        self.private = f"s3://private/{self.mark}/"
        self.receipt_keys = folder / "receipt-keys"
        self.kubeconfig = plane.kubeconfig  # the operator's way to the API server
        self.operator: subprocess.Popen[bytes] | None = None
        self.metrics = 0
        self.environment: dict[str, str] = {}  # of the operator, beside what it needs

    # -- the cluster ------------------------------------------------------------------------

    def prepare(self) -> None:
        """Definitions, namespaces, the budget's custody, the operator's configuration."""
        self.define()
        self.inhabit()
        self.configure()

    def define(self) -> None:
        """The definitions of our resources."""
        self.plane.kubectl("apply", "--server-side", "-f", str(CRDS))
        for resource in ("privacybudgets", "alignmentruns"):
            self.plane.kubectl(
                "wait", "--for=condition=Established", f"crd/{resource}.palimpsest.dev"
            )

    def inhabit(self) -> None:
        """The namespaces of custodian and tenant."""
        for name, labels in (
            (self.custody, {"palimpsest.dev/custody": "granted"}),
            (self.tenant, {}),
        ):
            self.kube.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        account = {"metadata": {"name": "private-data"}}
        self.kube.create(f"/api/v1/namespaces/{self.custody}/serviceaccounts", account)

    def configure(self) -> None:
        """The operator's configuration and keys."""
        keys = self.folder / "store"
        keys.mkdir()
        identity = self.object_store.credentials["operator"]
        (keys / "AWS_ACCESS_KEY_ID").write_text(identity.access_key)
        (keys / "AWS_SECRET_ACCESS_KEY").write_text(identity.secret_key)
        config = {
            "stageImage": "localhost/stage@sha256:" + "0" * 64,
            "lease": {"namespace": self.tenant},
            "stores": [{"endpoint": self.object_store.endpoint, "credentials": str(keys)}],
        }
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config))
        self.receipt_keys.mkdir()
        make_signing_key(self.receipt_keys)

    def start(self) -> None:
        """Start the installed operator."""
        self.operator = self.launch("operator-0")

    def launch(self, pod: str) -> subprocess.Popen[bytes]:
        """A process of the installed operator; its metrics are the ones that are read."""
        self.metrics, probes = free_ports(2)
        with (self.folder / "operator.log").open("ab") as log:
            return subprocess.Popen(
                [
                    str(Path(sys.executable).with_name("palimpsest")),
                    *("operator", f"--receipt-keys={self.receipt_keys}"),
                ],
                env={
                    **os.environ,
                    "KUBECONFIG": str(self.kubeconfig),
                    "PALIMPSEST_CONFIG": str(self.folder / "config.yaml"),
                    "PALIMPSEST_METRICS_PORT": str(self.metrics),
                    "PALIMPSEST_PROBES_PORT": str(probes),
                    "POD_NAME": pod,
                    **self.environment,
                },
                stdout=log,
                stderr=log,
            )

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the operator."""
        if self.operator is not None:
            self.operator.send_signal(number)
            self.operator.wait(timeout=30)
            self.operator = None

    def apply(self, manifest: Json) -> str:
        """kubectl apply."""
        return self.plane.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))

    def get(self, what: str, name: str, namespace: str = "") -> Json:
        """One object as JSON; {} if it is not there."""
        return self.kube.get(named(what, name, namespace)) or {}

    def jobs(self, namespace: str) -> list[Json]:
        """The Jobs of a namespace."""
        return self.kube.items(jobs_in(namespace))

    def until(self, what: str, check: Callable[[], Any], seconds: float = 45) -> Any:
        """Poll until `check` gives something true; fail with the operator's log otherwise."""
        deadline = time.monotonic() + seconds
        while not (found := check()):
            if time.monotonic() > deadline:
                log = (self.folder / "operator.log").read_text()[-4000:]
                raise AssertionError(f"not within {seconds} s: {what}\n{log}")
            time.sleep(0.2)
        return found

    def check_events(self) -> None:
        """All that the operator told of what a test did has a reason that is documented."""
        told = [
            event
            for event in self.kube.items(f"/api/v1/namespaces/{self.tenant}/events")
            if event["source"].get("component") == "palimpsest"
        ]
        assert {event["reason"] for event in told} <= REASONS

    def samples(self) -> list[Sample]:
        """All series that the operator shows now, as Prometheus reads them."""
        with urlopen(f"http://127.0.0.1:{self.metrics}/metrics") as answer:
            families = text_string_to_metric_families(answer.read().decode())
        return [sample for family in families for sample in family.samples]

    def summary(self, kind: str, name: str) -> str:
        """The reason of Ready, as the printer column shows it."""
        return str(self.get(kind, name, self.tenant).get("status", {}).get("summary", ""))

    def job(self, namespace: str, stage: str, attempt: int = 1) -> Json:
        """Wait for a stage's Job and all its pods."""
        found: Json = self.until(
            f"a Job of stage {stage} in {namespace}",
            lambda: self.find_job(namespace, stage, attempt),
        )
        return found

    def find_job(self, namespace: str, stage: str, attempt: int = 1) -> Json | None:
        """A stage's Job, once it has all its pods."""
        wanted = {"palimpsest.dev/stage": stage, "palimpsest.dev/attempt": str(attempt)}
        return next(
            (
                job
                for job in self.jobs(namespace)
                if wanted.items() <= job["metadata"]["labels"].items()
                and "deletionTimestamp" not in job["metadata"]
                and len(self.pods(job)) >= job["spec"].get("parallelism", 1)
            ),
            None,
        )

    def pods(self, job: Json) -> list[Json]:
        """A Job's pods."""
        meta = job["metadata"]
        return self.kube.items(pods_in(meta["namespace"]), f"job-name={meta['name']}")

    # -- the kubelet and the stage -------------------------------------------------------------

    def run_pods(self, job: Json) -> None:
        """The kubelet's word that a Job's pods run."""
        for pod in self.pods(job):
            path = f"{pods_in(pod['metadata']['namespace'], pod['metadata']['name'])}/status"
            self.kube.patch(path, {"status": {"phase": "Running"}})

    def end_pods(
        self, job: Json, outcome: Outcome, disrupted: bool = False, only: str = ""
    ) -> None:
        """The kubelet's word on how the containers of the Job, or of one pod of it, ended."""
        code = EXIT_CODES[outcome]
        message = json.dumps({"outcome": outcome.value, "message": MESSAGES[outcome]})
        for pod in self.pods(job):
            if only not in ("", pod["metadata"]["name"]):
                continue
            conditions = list(pod["status"].get("conditions") or [])
            if disrupted:
                conditions.append(
                    {
                        "type": "DisruptionTarget",
                        "status": "True",
                        "reason": "EvictionByEvictionAPI",
                    }
                )
            status = {
                "phase": "Succeeded" if code == 0 else "Failed",
                "conditions": conditions,
                "containerStatuses": [
                    {
                        "name": "stage",
                        "image": "stage",
                        "imageID": "",
                        "ready": False,
                        "restartCount": 0,
                        "state": {
                            "terminated": {
                                "exitCode": code,
                                "message": message,
                                "startedAt": "2026-01-01T00:00:00Z",
                                "finishedAt": "2026-01-01T00:00:01Z",
                            }
                        },
                    }
                ],
            }
            meta = pod["metadata"]
            path = f"{pods_in(meta['namespace'], meta['name'])}/status"
            self.kube.patch(path, {"status": status})

    def store(self, account: str) -> S3Store:
        """The store, entered with one account's keys."""
        if account not in self._stores:
            keys = self.behind.credentials[account]
            self._stores[account] = S3Store(
                StoreConfig(
                    endpoint=self.behind.endpoint,
                    region="us-east-1",
                    path_style=True,
                    ca_bundle=None,
                    credentials=AccessKeys(keys.access_key, keys.secret_key),
                )
            )
        return self._stores[account]

    def journal(self, account: str = "custodian") -> Journal:
        """The budget's journal."""
        return Journal(self.store(account), self.private)

    def publish(self, job: Json, files: dict[str, bytes]) -> None:
        """What a stage's pods write when they succeed, charged if the task is."""
        task = task_of(job)
        private = task.charge is not None
        store = self.store("custodian" if private else "tenant")
        shards = task.parameters.shards if isinstance(task.parameters, SampleParameters) else None
        for index in range(shards or 1):
            prefix = task.output.uri + (f"shards/{index}/" if shards is not None else "")
            listed = []
            for name, data in files.items():
                store.put(f"{prefix}attempts/1-test/{name}", data)
                listed.append(
                    File(path=f"attempts/1-test/{name}", digest=sha256_digest(data), size=len(data))
                )
            manifest = Manifest(
                subject=task.subject,
                task=work_digest(task.subject, task.parameters, task.inputs),
                parameters=task.parameters,
                inputs=task.inputs,
                files=listed,
                figures=FIGURES.get(task.parameters.stage, {}),
                charge=task.charge.id if task.charge else None,
                attempt="1-test",
            )
            store.put_if_absent(
                f"{prefix}manifest.json", canonical_json(manifest.model_dump(by_alias=True))
            )

    def spend(self, job: Json, attempt: int, blocks: int, done: int = 0) -> None:
        """What a private stage writes to the journal: its start, and `blocks` intents.

        The intents alone where it wrote `done` already.
        """
        task = task_of(job)
        assert task.charge is not None
        journal = self.journal()
        journal.refresh()
        if not done:
            journal.start(task.charge.id, attempt)
        steps = task.parameters.block_steps if isinstance(task.parameters, TrainParameters) else 1
        for block in range(done, done + blocks):
            journal.intent(task.charge.id, attempt, block, steps)

    def succeed(self, stage: str, files: dict[str, bytes], blocks: int = 0) -> Json:
        """Play a stage from its Job's creation to its success."""
        private = stage in ("train", "histogram")
        job = self.job(self.custody if private else self.tenant, stage)
        if private:
            self.spend(job, 1, blocks)
        self.publish(job, files)
        self.end_pods(job, Outcome.COMPLETED)
        return job

    # -- manifests -----------------------------------------------------------------------------

    def manifests(self) -> list[Json]:
        """One of each kind, what is named before what names it."""
        return [
            self.privacy_budget(),
            self.private_generator(),
            self.synthetic_dataset(),
            self.alignment_run(),
        ]

    def storage(self, secret: str) -> Json:
        """A storage block."""
        return {
            "endpoint": self.object_store.endpoint,
            "auth": {"type": "Secret", "secretName": secret},
        }

    def privacy_budget(self, epsilon: str = "3.4") -> Json:
        """A budget that holds one generator of epsilon 3 and a histogram."""
        model = {"uri": "s3://models/tiny/", "digest": DIGEST}
        return {
            "apiVersion": "palimpsest.dev/v1alpha1",
            "kind": "PrivacyBudget",
            "metadata": {"name": self.budget},
            "spec": {
                "dataset": {
                    "uri": self.private,
                    "records": 15000,
                    "storage": self.storage("custodian-keys"),
                },
                "limit": {"epsilon": epsilon, "delta": "1e-5"},
                "plan": {
                    "trainings": [{"epsilon": "3", "batchSize": 256, "steps": 32}],
                    "histograms": [{"noiseMultiplier": "10"}],
                },
                "custodian": {"namespace": self.custody},
                "releases": {
                    "uri": f"s3://releases/{self.mark}/",
                    "storage": self.storage("custodian-keys"),
                },
                "allowedNamespaces": {"names": [self.tenant]},
                "allowedModels": [model],
            },
        }

    def private_generator(self, name: str = "questions", epsilon: str = "3") -> Json:
        """A generator."""
        return {
            "apiVersion": "palimpsest.dev/v1alpha1",
            "kind": "PrivateGenerator",
            "metadata": {"name": name, "namespace": self.tenant},
            "spec": {
                "budgetRef": {"name": self.budget},
                "privacy": {"epsilon": epsilon},
                "baseModel": {"uri": "s3://models/tiny/", "digest": DIGEST},
                "training": {"prompt": "A question:"},
            },
        }

    def synthetic_dataset(self, name: str = "questions") -> Json:
        """A data set with every stage."""
        model = {"uri": "s3://models/tiny/", "digest": DIGEST}
        return {
            "apiVersion": "palimpsest.dev/v1alpha1",
            "kind": "SyntheticDataset",
            "metadata": {"name": name, "namespace": self.tenant},
            "spec": {
                "generatorRef": {"name": "questions"},
                "sampling": {"count": 300, "shards": 2},
                "resampling": {"size": 100, "clusters": 10, "embedder": model},
                "annotation": {"model": model, "systemPrompt": "Answer briefly."},
                "output": {
                    "uri": f"s3://outputs/{self.mark}/{name}/",
                    "storage": self.storage("tenant-keys"),
                },
            },
        }

    def alignment_run(self, name: str = "assistant") -> Json:
        """A supervised run."""
        return {
            "apiVersion": "palimpsest.dev/v1alpha1",
            "kind": "AlignmentRun",
            "metadata": {"name": name, "namespace": self.tenant},
            "spec": {
                "datasetRef": {"name": "questions"},
                "baseModel": {"uri": "s3://models/tiny/", "digest": DIGEST},
                "output": {
                    "uri": f"s3://outputs/{self.mark}/{name}/",
                    "storage": self.storage("tenant-keys"),
                },
            },
        }


def make_signing_key(folder: Path) -> None:
    """Make a new signing key, over another if there is one."""
    signer = CryptoSigner.generate_ed25519()
    (folder / "signing.pem").write_bytes(signer.private_bytes)


def task_of(job: Json) -> Task:
    """The task in a Job's pod template."""
    container = job["spec"]["template"]["spec"]["containers"][0]
    text = next(item["value"] for item in container["env"] if item["name"] == TASK_VARIABLE)
    return Task.model_validate_json(text)
