"""Letting resources go when the operator is taken away for good."""

import logging

from palimpsest.api.alignment import AlignmentRun
from palimpsest.api.dataset import SyntheticDataset
from palimpsest.api.generator import PrivateGenerator
from palimpsest.reconcile.adapter.cluster import Cluster, ConflictError
from palimpsest.reconcile.plan import FINALIZER
from palimpsest.telemetry import logs

log = logging.getLogger(__name__)

TRIES = 5


def let_go(cluster: Cluster) -> int:
    """Take our finalizer off every resource; how many had it.

    Call it under the Lease: a working operator would put it on again. Nothing is given back by it.
    What a resource had reserved stays reserved in its journal, and an operator that is installed
    later finds both again. Raises ConflictError if a resource keeps changing, ApiException.
    """
    found = 0
    for kind in (AlignmentRun.kind, SyntheticDataset.kind, PrivateGenerator.kind):
        for item in cluster.resources(kind):
            if FINALIZER in item["metadata"].get("finalizers", ()):
                _let_go(cluster, kind, item["metadata"]["namespace"], item["metadata"]["name"])
                found += 1
    return found


def _let_go(cluster: Cluster, kind: str, namespace: str, name: str) -> None:
    for left in reversed(range(TRIES)):
        current = cluster.resource(kind, namespace, name)
        if current is None:
            return
        kept = [each for each in current["metadata"].get("finalizers", ()) if each != FINALIZER]
        try:
            cluster.write_finalizers(kind, current, kept)
        except ConflictError:
            if not left:
                raise
            continue
        with logs.scope(kind=kind, namespace=namespace, name=name):
            log.info("let go")
        return
