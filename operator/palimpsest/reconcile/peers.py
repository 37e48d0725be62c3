"""A Job whose processes train together: what tells them of one another, and their Service. Pure.

A Job of one process is left as it is.
"""

from collections.abc import Mapping
from typing import Any

from palimpsest.api import GROUP
from palimpsest.api.common import TrainingCompute
from palimpsest.api.task import LEADER_VARIABLE, PROCESSES_VARIABLE, REPLICAS_VARIABLE

# On pods that may reach one another; its value is the Job.
LABEL_PEERS = f"{GROUP}/peers"
# A pod has a network of its own.
PORT = 29500


def joined(job: dict[str, Any], compute: TrainingCompute) -> dict[str, Any]:
    """The Job's manifest with all its pods and processes."""
    if compute.processes == 1:
        return job
    spec, name = job["spec"], job["metadata"]["name"]
    template = spec["template"]
    variables: dict[str, Any] = {PROCESSES_VARIABLE: compute.processes_per_replica}
    pod, marks = template["spec"], template["metadata"]["labels"]
    if compute.replicas > 1:
        service = _service_name(name)
        variables |= {
            REPLICAS_VARIABLE: compute.replicas,
            LEADER_VARIABLE: f"{name}-0.{service}:{PORT}",
        }
        pod, marks = {**pod, "subdomain": service}, {**marks, LABEL_PEERS: name}
    (container,) = pod["containers"]
    given = [{"name": name, "value": str(value)} for name, value in variables.items()]
    pod = {**pod, "containers": [{**container, "env": [*container["env"], *given]}]}
    return {
        **job,
        "spec": {
            **spec,
            "completions": compute.replicas,
            "parallelism": compute.replicas,
            "template": {**template, "metadata": {"labels": marks}, "spec": pod},
        },
    }


def service(job: Mapping[str, Any]) -> dict[str, Any] | None:
    """The headless Service of a Job as the API server shows it; None if its pods need none.

    It has the Job's uid, so it is made after the Job and is collected with it.
    """
    template = job["spec"].get("template") or {}
    subdomain = (template.get("spec") or {}).get("subdomain")
    if not subdomain:
        return None
    meta = job["metadata"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"]}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": subdomain,
            "namespace": meta["namespace"],
            "labels": dict(meta.get("labels") or {}),
            "ownerReferences": [owner],
        },
        "spec": {
            "clusterIP": "None",
            # They look for one another in order to become ready.
            "publishNotReadyAddresses": True,
            "selector": {LABEL_PEERS: meta["name"]},
        },
    }


def _service_name(job: str) -> str:
    """The Job's name; a Service's must begin with a letter."""
    return job if job[0].isalpha() else f"j{job}"
