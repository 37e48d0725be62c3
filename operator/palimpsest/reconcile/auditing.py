"""What a training's audit found, as status and condition. Pure."""

import json
from dataclasses import dataclass

from palimpsest.api.audit import AUDIT, AuditParameters, AuditResult, AuditStatus
from palimpsest.api.common import ArtifactRef, Storage
from palimpsest.api.generator import PrivateGeneratorStatus
from palimpsest.api.manifest import MANIFEST, Manifest
from palimpsest.api.outcomes import MESSAGES, Outcome
from palimpsest.api.task import sha256_digest
from palimpsest.privacy.audits import judge, largest_provable, powerful

from .conditions import Finding, Verdict
from .observed import Objects, StoreTrouble
from .stages import Step

CONDITION = "AuditPassed"
UNSOUND = "AuditInvalid"


@dataclass(frozen=True)
class Standing:
    """Where the audit stands; `verdict` is what to say of the resource where the audit decides."""

    status: AuditStatus
    finding: Finding
    verdict: Verdict | None = None


def standing(
    audit: AuditParameters,
    step: Step,
    releases: Storage,
    objects: Objects,
    before: PrivateGeneratorStatus | None,
) -> Standing:
    """Of a training in this step. Raises NotObservedError while the store was not asked.

    `before` remembers a failure when the Job that told it is gone: a failed audit is not forgotten.
    """
    if step.done:
        return _published(audit, step.artifacts[0], releases, objects)
    remembered = before.audit if before else None
    if step.verdict.reason == Outcome.AUDIT_FAILED or (
        remembered and remembered.verdict == "Failed"
    ):
        return _failed(audit, step)
    return _pending(audit)


def _published(
    audit: AuditParameters, artifact: ArtifactRef, releases: Storage, objects: Objects
) -> Standing:
    found = _result(audit, artifact, releases, objects)
    if isinstance(found, Verdict):
        finding = Finding(CONDITION, "Unknown", found.reason, found.message)
        return Standing(_status(audit), finding, found)
    status = _status(audit).model_copy(update={"bound": found.bound, "verdict": found.verdict})
    if found.verdict == "NoPower":
        return Standing(status, _no_power(status))
    message = (
        f"Epsilon is at least {found.bound} at confidence {found.confidence}, which does not "
        f"contradict the claim {found.epsilon}; up to {found.largest_provable} could be proved."
    )
    return Standing(status, Finding(CONDITION, "True", "BoundBelowClaim", message))


def _result(
    audit: AuditParameters, artifact: ArtifactRef, releases: Storage, objects: Objects
) -> AuditResult | Verdict:
    """The audit.json of a release that passed, or why there is none to believe."""
    manifest = objects.read(releases, artifact.uri)
    if isinstance(manifest, StoreTrouble):
        return Verdict("Reconciling", manifest.reason, manifest.message)
    try:
        file = Manifest.model_validate(json.loads(manifest or b"")).file(AUDIT)
    except (ValueError, KeyError):
        return Verdict("Stalled", UNSOUND, f"{artifact.uri} names no {AUDIT}.")
    data = objects.read(releases, f"{artifact.uri.removesuffix(MANIFEST)}{file.path}")
    if isinstance(data, StoreTrouble):
        return Verdict("Reconciling", data.reason, data.message)
    if data is None or sha256_digest(data) != file.digest:
        return Verdict("Stalled", UNSOUND, f"{AUDIT} is not the one that {artifact.uri} names.")
    try:
        result = AuditResult.model_validate_json(data)
        # All figures follow from how many guesses were right.
        sound = result == judge(audit, result.correct) and result.verdict != "Failed"
    except ValueError:
        sound = False
    if not sound:
        message = f"{AUDIT} of {artifact.uri} is not that of this audit, passed."
        return Verdict("Stalled", UNSOUND, message)
    return result


def _status(audit: AuditParameters) -> AuditStatus:
    return AuditStatus(
        claim=audit.epsilon,
        confidence=audit.confidence,
        guesses=audit.included_guesses + audit.excluded_guesses,
        largest_provable=largest_provable(audit),
        verdict="Pending" if powerful(audit) else "NoPower",
    )


def _pending(audit: AuditParameters) -> Standing:
    status = _status(audit)
    if status.verdict == "NoPower":
        return Standing(status, _no_power(status))
    message = f"The training is not done; up to {status.largest_provable} can be proved."
    return Standing(status, Finding(CONDITION, "Unknown", "AuditPending", message))


def _failed(audit: AuditParameters, step: Step) -> Standing:
    status = _status(audit).model_copy(update={"verdict": "Failed"})
    reason, message = Outcome.AUDIT_FAILED.value, MESSAGES[Outcome.AUDIT_FAILED]
    finding = Finding(CONDITION, "False", reason, message)
    # What holds the whole budget, such as an unsound journal, is said before it.
    verdict = Verdict("Stalled", reason, message) if step.status.state == "Failed" else None
    return Standing(status, finding, verdict)


def _no_power(status: AuditStatus) -> Finding:
    message = (
        f"The audit cannot refute {status.claim}: up to {status.largest_provable} could be proved. "
        "More canaries can prove more."
    )
    return Finding(CONDITION, "Unknown", "NoPower", message)
