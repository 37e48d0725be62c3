"""Whether an aligned model passed its gates, as the resource's standing. Pure."""

import json

from palimpsest.api.common import ArtifactRef, Storage
from palimpsest.api.evaluation import GATES, FailedGate, GateReport
from palimpsest.api.manifest import MANIFEST, Manifest
from palimpsest.api.task import sha256_digest

from .conditions import Verdict
from .observed import Objects, StoreTrouble

READY = Verdict("Ready", "Ready", "The aligned model is published.")
FAILED = "GateFailed"
UNSOUND = "GatesInvalid"


def standing(artifact: ArtifactRef, storage: Storage, objects: Objects) -> Verdict:
    """Of a published model with gates. Raises NotObservedError while the store was not asked."""
    report = _report(artifact, storage, objects)
    if isinstance(report, Verdict):
        return report
    if not report.failed:
        return READY
    told = "; ".join(map(_told, report.failed))
    return Verdict(
        "Stalled",
        FAILED,
        f"The model is published but failed spec.evaluation.gates: {told}. Align another one, or "
        "use it knowing that.",
    )


def _told(one: FailedGate) -> str:
    side = "below" if one.gate.startswith("min") else "above"
    return f"{one.gate}: {one.figure} is {side} {one.bound}"


def _report(artifact: ArtifactRef, storage: Storage, objects: Objects) -> GateReport | Verdict:
    """The report that the manifest names, or why there is none to believe."""
    manifest = objects.read(storage, artifact.uri)
    if isinstance(manifest, StoreTrouble):
        return Verdict("Reconciling", manifest.reason, manifest.message)
    # It lies in the tenant's own store, where anything may be written.
    unsound = Verdict(
        "Stalled",
        UNSOUND,
        f"{artifact.uri} names no {GATES} that can be read: something else than the stage wrote "
        "it. Remove it, and the model is made again.",
    )
    try:
        file = Manifest.model_validate(json.loads(manifest or b"")).file(GATES)
    except (ValueError, KeyError):
        return unsound
    data = objects.read(storage, f"{artifact.uri.removesuffix(MANIFEST)}{file.path}")
    if isinstance(data, StoreTrouble):
        return Verdict("Reconciling", data.reason, data.message)
    if data is None or sha256_digest(data) != file.digest:
        return unsound
    try:
        return GateReport.model_validate_json(data)
    except ValueError:
        return unsound
