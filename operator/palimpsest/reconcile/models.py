"""What models ask of a stage's pod: the cache, claims, a hub's token and address. Pure."""

from dataclasses import dataclass
from typing import Any

from palimpsest.api.budget import Custodian
from palimpsest.api.common import ClaimCache, Compute, ModelCache, PrivateCompute
from palimpsest.api.task import (
    CACHE,
    CACHE_VARIABLE,
    CLAIMS,
    ClaimModelInput,
    HubModelInput,
    ModelInput,
    Task,
)

# The custodian's policy lets through a claim of this name only (chart, custody-policies.yaml).
CACHE_VOLUME = "cache"


@dataclass(frozen=True)
class Access:
    """Parts of a pod: its container's environment and mounts, and its volumes."""

    environment: tuple[dict[str, Any], ...]
    mounts: tuple[dict[str, Any], ...]
    volumes: tuple[dict[str, Any], ...]


def access(
    task: Task, compute: PrivateCompute, custodian: Custodian | None, hub_endpoint: str
) -> Access:
    """What the task's models need; in custody the cache is the custodian's choice alone."""
    models = [
        one
        for one in task.inputs.values()
        if isinstance(one, ModelInput | HubModelInput | ClaimModelInput)
    ]
    environment: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    volumes: list[dict[str, Any]] = []
    cache = _cache(compute, custodian)
    # A claim on a volume is where it is: only what is fetched is worth keeping.
    if cache and any(not isinstance(one, ClaimModelInput) for one in models):
        environment.append({"name": CACHE_VARIABLE, "value": CACHE})
        mounts.append({"name": CACHE_VOLUME, "mountPath": CACHE})
        volumes.append(_cache_volume(cache))
    if hub_endpoint and any(isinstance(one, HubModelInput) for one in models):
        environment.append({"name": "HF_ENDPOINT", "value": hub_endpoint})
    claims = sorted({one.claim for one in models if isinstance(one, ClaimModelInput)})
    for index, claim in enumerate(claims):
        name = f"claim-{index}"
        mounts.append({"name": name, "mountPath": f"{CLAIMS}/{claim}", "readOnly": True})
        source = {"claimName": claim, "readOnly": True}
        volumes.append({"name": name, "persistentVolumeClaim": source})
    return Access(tuple(environment), tuple(mounts), tuple(volumes))


def _cache(compute: PrivateCompute, custodian: Custodian | None) -> ModelCache | ClaimCache | None:
    if custodian:
        return custodian.compute.cache
    return compute.cache if isinstance(compute, Compute) else None


def _cache_volume(cache: ModelCache | ClaimCache) -> dict[str, Any]:
    if isinstance(cache, ModelCache) and cache.host_path:
        # One that is made on the spot would belong to root.
        return {"name": CACHE_VOLUME, "hostPath": {"path": cache.host_path, "type": "Directory"}}
    return {"name": CACHE_VOLUME, "persistentVolumeClaim": {"claimName": cache.claim_name}}
