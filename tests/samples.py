"""Good manifests of every kind, for tests to bend."""

import copy
from typing import Any

Json = dict[str, Any]

DIGEST = "sha256:" + "a" * 64
STORAGE: Json = {"endpoint": "http://127.0.0.1:9000", "auth": {"secretName": "store"}}
MODEL: Json = {"uri": "s3://models/generator/", "digest": DIGEST}
EMBEDDER: Json = {"uri": "s3://models/embedder/", "digest": DIGEST}


def budget(name: str = "chat", namespace: str = "research", **spec: Any) -> Json:
    """A PrivacyBudget of (8, 1e-6) over 180,000 records that `namespace` may charge."""
    return _manifest(
        "PrivacyBudget",
        {"name": name},
        {
            "dataset": {
                "uri": f"s3://private/{name}/",
                "records": 180_000,
                "storage": STORAGE,
            },
            "limit": {"epsilon": "8", "delta": "1e-6"},
            "custodian": {"namespace": "custody"},
            "releases": {"uri": f"s3://releases/{name}/", "storage": STORAGE},
            "allowedNamespaces": {"names": [namespace]},
            "allowedModels": [MODEL, EMBEDDER],
        },
        spec,
    )


def generator(
    name: str = "questions", namespace: str = "research", pays: str = "chat", **spec: Any
) -> Json:
    """A PrivateGenerator of epsilon 4: 440 steps of 4096."""
    return _manifest(
        "PrivateGenerator",
        {"name": name, "namespace": namespace},
        {
            "budgetRef": {"name": pays},
            "privacy": {"epsilon": "4"},
            "baseModel": MODEL,
            "training": {"expectedBatchSize": 4096, "steps": 440, "restarts": 0},
        },
        spec,
    )


def dataset(
    name: str = "questions", namespace: str = "research", source: str = "questions", **spec: Any
) -> Json:
    """A SyntheticDataset with resampling and annotation."""
    return _manifest(
        "SyntheticDataset",
        {"name": name, "namespace": namespace},
        {
            "generatorRef": {"name": source},
            "sampling": {"count": 3000, "shards": 2},
            "resampling": {"size": 500, "clusters": 50, "embedder": EMBEDDER},
            "annotation": {"model": MODEL, "systemPrompt": "Answer in one sentence."},
            "output": {"uri": "s3://outputs/questions/", "storage": STORAGE},
        },
        spec,
    )


def alignment(name: str = "assistant", namespace: str = "research", **spec: Any) -> Json:
    """An AlignmentRun with an evaluation."""
    return _manifest(
        "AlignmentRun",
        {"name": name, "namespace": namespace},
        {
            "datasetRef": {"name": "questions"},
            "baseModel": MODEL,
            "evaluation": {"prompts": "s3://models/held-out.jsonl", "digest": DIGEST},
            "output": {"uri": "s3://outputs/assistant/", "storage": STORAGE},
        },
        spec,
    )


def changed(manifest: Json, path: str, value: Any) -> Json:
    """A copy with the field at `path` (dots; list indices too) set, or removed if None."""
    result = copy.deepcopy(manifest)
    node: Any = result
    *parents, last = path.split(".")
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
    if value is None:
        del node[last]
    else:
        node[last] = value
    return result


def _manifest(kind: str, metadata: Json, spec: Json, more: Json) -> Json:
    return copy.deepcopy(
        {
            "apiVersion": "palimpsest.dev/v1alpha1",
            "kind": kind,
            "metadata": metadata,
            "spec": {**spec, **more},
        }
    )
