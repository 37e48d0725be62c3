"""Whether a Job that cannot start is made anew.

A Job does not change: what was corrected since it was made, in a spec, the custodian's terms or the
chart, reaches no pod of it.
"""

from palimpsest.reconcile.observed import Job


def due(job: Job, asked: str, suspend: bool) -> bool:
    """Whether the Job is to go: it cannot start, and by now another is asked for, or none.

    `asked` is the digest of the manifest that would be made now. What is compared is what was asked
    for, not what stands there: a cluster may change Jobs when they are made, and would so for ever.
    """
    if job.state != "Active" or job.deleting or job.ran:
        return False
    blocked = not job.pods or any(pod.trouble for pod in job.pods)
    # A Job of an older version of the operator says nothing about it.
    changed = job.asked not in ("", asked)
    return blocked and (changed or suspend)
