"""The pipeline's resources, as small as they can be and still run every stage."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from cluster.parts import Model, questions
from demo.ground import Store
from demo.install import CUSTODY, TENANT
from e2e.canaries import Canaries, drawn
from palimpsest.api.task import sha256_digest

RECORDS = 256
STEPS, BLOCK, RESTARTS = 400, 50, 1
# Preferences that people might have written, for a reward model.
PAIRS = b"".join(
    json.dumps(
        {
            "instruction": f"which is more, {number} or {number + 1}",
            "chosen": f"{number + 1} is more than {number}",
            "rejected": "who knows",
        }
    ).encode()
    + b"\n"
    for number in range(40)
)


@dataclass(frozen=True)
class Specs:
    """All resources of one run carry its name."""

    name: str
    store: Store
    model: Model
    embedder: Model
    canaries: Canaries = field(default_factory=drawn, repr=False)
    replicas: int = 1
    # Of the alignment runs' names: more of them may be made on one data set.
    suffix: str = ""

    @property
    def data(self) -> str:
        """Where the private records lie."""
        return f"s3://private/{self.name}/"

    @property
    def releases(self) -> str:
        """Where the releases go."""
        return f"s3://releases/{self.name}/"

    @property
    def outputs(self) -> str:
        """Where the tenant's artifacts go."""
        return f"s3://outputs/{self.name}/"

    @property
    def pairs_key(self) -> str:
        """Where the public preferences lie in the bucket of outputs."""
        return f"public/{self.name}-pairs.jsonl"

    @property
    def denied(self) -> str:
        """Name of the generator that overspends."""
        return f"{self.name}-denied"

    @property
    def expected(self) -> set[tuple[str, str]]:
        """Kinds and names that must become Ready."""
        kinds = ("PrivacyBudget", "PrivateGenerator", "SyntheticDataset", "AlignmentRun")
        return {(kind, self.name) for kind in kinds}

    @property
    def runs(self) -> dict[str, str]:
        """The alignment runs by their stage: one a method, of which only `sft` is `expected`."""
        name = f"{self.name}{self.suffix}"
        return {"sft": name, "dpo": f"{name}-dpo", "rlhf": f"{name}-rlhf"}

    @property
    def every_method(self) -> set[tuple[str, str]]:
        """All that must become Ready where every method is applied."""
        return self.expected | self.aligned

    @property
    def aligned(self) -> set[tuple[str, str]]:
        """The alignment runs."""
        return {("AlignmentRun", name) for name in self.runs.values()}

    def yaml(self, *names: str) -> str:
        """The resources called so, as one YAML stream.

        Of JSON documents: 1e-3 without quotes is a string to one YAML library, a number to another.
        """
        return "\n---\n".join(json.dumps(getattr(self, f"_{name}")()) for name in names)

    def _storage(self, secret: str) -> dict[str, Any]:
        return {
            "endpoint": self.store.endpoint,
            "region": self.store.region,
            "auth": {"type": "Secret", "secretName": secret},
            "egress": [{"cidr": self.store.cidr, "ports": [int(self.store.port)]}],
        }

    def _resource(self, kind: str, spec: dict[str, Any], name: str = "") -> dict[str, Any]:
        metadata = {"name": name or self.name}
        if kind != "PrivacyBudget":
            metadata["namespace"] = TENANT
        return {
            "apiVersion": "palimpsest.dev/v1alpha1",
            "kind": kind,
            "metadata": metadata,
            "spec": spec,
        }

    def _budget(self) -> dict[str, Any]:
        return self._resource(
            "PrivacyBudget",
            {
                "dataset": {
                    "uri": self.data,
                    "textField": "instruction",
                    "records": RECORDS,
                    "storage": self._storage("custodian-store"),
                },
                "limit": {"epsilon": "4.5", "delta": "1e-3"},
                "plan": {
                    "trainings": [
                        {"epsilon": "4", "batchSize": 32, "steps": STEPS + RESTARTS * BLOCK}
                    ],
                    "histograms": [{"noiseMultiplier": "10"}],
                },
                "custodian": {
                    "namespace": CUSTODY,
                    "compute": {"maxReplicas": self.replicas},
                },
                "releases": {"uri": self.releases, "storage": self._storage("custodian-store")},
                "allowedNamespaces": {"names": [TENANT]},
                "allowedModels": [_ref(self.model), _ref(self.embedder)],
            },
        )

    def _generator(self, name: str = "") -> dict[str, Any]:
        return self._resource(
            "PrivateGenerator",
            {
                "budgetRef": {"name": self.name},
                "privacy": {"epsilon": "4"},
                "baseModel": _ref(self.model),
                "training": {
                    "prompt": "Q:",
                    "expectedBatchSize": 32,
                    "microBatchSize": 16,
                    "steps": STEPS,
                    "maxLength": 32,
                    "checkpointInterval": BLOCK,
                    "restarts": RESTARTS,
                    "precision": "float32",
                },
                "compute": {"replicas": self.replicas},
            },
            name,
        )

    def _overspend(self) -> dict[str, Any]:
        return self._generator(self.denied)

    def _dataset(self) -> dict[str, Any]:
        return self._resource(
            "SyntheticDataset",
            {
                "generatorRef": {"name": self.name},
                "sampling": {"count": 64, "shards": 2, "batchSize": 32, "maxLength": 12},
                "resampling": {"size": 24, "clusters": 4, "embedder": _ref(self.embedder)},
                "annotation": {
                    "model": _ref(self.model),
                    "maxNewTokens": 8,
                    "batchSize": 8,
                    "answers": 2,
                },
                "output": {
                    "uri": f"{self.outputs}data/",
                    "storage": self._storage("tenant-store"),
                },
            },
        )

    def _alignment(self) -> dict[str, Any]:
        return self._run(
            self.runs["sft"], {"sft": {"batchSize": 8, "maxLength": 256, "loraRank": 2}}
        )

    def _preference(self) -> dict[str, Any]:
        return self._run(
            self.runs["dpo"],
            {
                "method": "DPO",
                "dpo": {"batchSize": 8, "maxLength": 256, "loraRank": 2},
                "reward": {
                    "trained": {
                        "preferences": {
                            "uri": f"s3://outputs/{self.pairs_key}",
                            "digest": sha256_digest(PAIRS),
                        },
                        "batchSize": 8,
                        "loraRank": 2,
                        "maxLength": 256,
                    }
                },
                "merge": False,
            },
        )

    def _reinforcement(self) -> dict[str, Any]:
        return self._run(
            self.runs["rlhf"],
            {
                "method": "RLHF",
                "rlhf": {
                    "steps": 2,
                    "promptsPerStep": 2,
                    "completionsPerPrompt": 2,
                    "maxNewTokens": 8,
                    "loraRank": 2,
                },
                "reward": {"builtIn": "Informative"},
                "evaluation": {
                    "prompts": questions().held_out_uri,
                    "digest": questions().held_out_digest,
                    "count": 4,
                    "judge": {"builtIn": "OnTopic"},
                },
            },
        )

    def _run(self, name: str, method: dict[str, Any]) -> dict[str, Any]:
        return self._resource(
            "AlignmentRun",
            {
                "datasetRef": {"name": self.name},
                "baseModel": _ref(self.model),
                **method,
                "output": {
                    "uri": f"{self.outputs}{name}/",
                    "storage": self._storage("tenant-store"),
                },
            },
            name,
        )


def _ref(model: Model) -> dict[str, str]:
    return {"uri": model.uri, "digest": model.digest}
