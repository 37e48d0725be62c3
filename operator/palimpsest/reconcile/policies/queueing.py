"""How a Job waits in a Kueue queue: it is made suspended and Kueue alone starts it."""

from typing import Any

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"


def queued(job: dict[str, Any], queue: str | None) -> dict[str, Any]:
    """The Job's manifest, put into the LocalQueue if one is named."""
    if queue is None:
        return job
    labels = {**job["metadata"]["labels"], QUEUE_LABEL: queue}
    return {
        **job,
        "metadata": {**job["metadata"], "labels": labels},
        "spec": {**job["spec"], "suspend": True},
    }


def waiting_message(job: str, queue: str) -> str:
    """What to say of a Job that does not run yet because it is suspended."""
    if queue:
        return f"Job {job} waits in queue {queue}: Kueue starts it when the queue admits it."
    return f"Job {job} is suspended: whoever suspended it (spec.suspend of the Job) starts it."
