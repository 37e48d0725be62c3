"""Releases held against the journal: manifests, the files they list, receipts. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from pydantic import ValidationError
from securesystemslib.signer import SSlibKey

from palimpsest.api.manifest import MANIFEST, Manifest
from palimpsest.api.task import (
    HistogramParameters,
    PrivateInput,
    TrainParameters,
    work_digest,
)
from palimpsest.audit.findings import Code, Finding
from palimpsest.audit.journal import Anchor, Replay, check_anchors
from palimpsest.audit.reference import Epsilons
from palimpsest.ledger.state import Charge, Head, LedgerState
from palimpsest.privacy.accountant import epsilon_rdp
from palimpsest.privacy.mechanisms import DiscreteGaussian, Mechanism, PoissonSubsampledGaussian
from palimpsest.receipts import ReceiptInvalid
from palimpsest.receipts.build import Released, statement
from palimpsest.receipts.envelope import verify
from palimpsest.receipts.spending import committed
from palimpsest.receipts.statement import Statement
from palimpsest.storage import canonical_prefix

# Statements show four decimals, rounded up; accountants' versions differ a little more.
_EPSILON = 2e-3
_MOST_FIELDS = 6


@dataclass(frozen=True)
class Release:
    """What lies at one place: a manifest and its receipt; None for what is not there."""

    uri: str
    manifest: bytes | None
    receipt: bytes | None

    @property
    def prefix(self) -> str:
        """Where the manifest's files lie."""
        return self.uri.removesuffix(MANIFEST)


@dataclass(frozen=True)
class Receipt:
    """A receipt whose signature holds, with the journal as it was when it was signed."""

    release: Release
    statement: Statement
    state: LedgerState


def read_manifest(release: Release) -> Manifest | Finding | None:
    """The manifest, None if there is none."""
    if release.manifest is None:
        return None
    try:
        return Manifest.model_validate(json.loads(release.manifest))
    except (ValueError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        field = ".".join(map(str, first["loc"]))[:80] if first else "document"
        return Finding(Code.M001, release.uri, f"{field}: is no manifest's")


def belongs(manifest: Manifest, journal: str) -> bool:
    """Whether the release is of this journal's data; releases of several budgets may lie together.

    Doubt belongs here.
    """
    private = [each for each in manifest.inputs.values() if isinstance(each, PrivateInput)]
    try:
        return not private or any(canonical_prefix(each.uri) == journal for each in private)
    except ValueError:
        return True


def audit_manifest(release: Release, manifest: Manifest, state: LedgerState) -> list[Finding]:
    """Whether the journal bears out what the manifest says of its charge and its task."""

    def finding(code: Code, what: str) -> list[Finding]:
        return [Finding(code, release.uri, what)]

    if work_digest(manifest.subject, manifest.parameters, manifest.inputs) != manifest.task:
        return finding(Code.M001, "task: is not the digest of subject, parameters and inputs")
    private = isinstance(manifest.parameters, TrainParameters | HistogramParameters)
    if manifest.charge is None:
        return finding(Code.M002, "read private records without a charge") if private else []
    charge = state.charges.get(manifest.charge)
    if charge is None or charge.status == "released":
        return finding(Code.M002, f"charge {manifest.charge}: not paid in the journal")
    if charge.active:
        return finding(Code.M005, f"charge {manifest.charge}: not committed yet")
    findings = []
    subject = charge.subject
    if charge.task_digest != manifest.task or (subject.kind, subject.namespace, subject.name) != (
        manifest.subject.kind,
        manifest.subject.namespace,
        manifest.subject.name,
    ):
        findings += finding(Code.M003, f"charge {charge.id} paid for another task")
    if not _paid_for(manifest, charge):
        findings += finding(Code.M003, f"charge {charge.id} paid for other parameters")
    return findings


def audit_file(
    release: Release, path: str, expected: tuple[str, int], found: tuple[str, int] | None
) -> list[Finding]:
    """A file's (digest, size) against the manifest's; None if it is not there."""
    if found == expected:
        return []
    what = "is not there" if found is None else f"is {found[0]}, the manifest has {expected[0]}"
    return [Finding(Code.M004, release.prefix + path, what)]


def open_receipt(
    release: Release, keys: Sequence[SSlibKey], replayed: Replay, receipt_uri: str, place: str
) -> tuple[list[Finding], Receipt | None]:
    """The release's receipt, if its signature holds and the journal has the head it names."""
    if release.receipt is None:
        return [Finding(Code.R005, receipt_uri, "there is no receipt")], None
    try:
        told = verify(release.receipt, keys)
    except ReceiptInvalid as error:
        return [Finding(Code.R001, receipt_uri, str(error))], None
    head = Head(told.predicate.journal_head.sequence, told.predicate.journal_head.digest)
    findings = check_anchors(replayed, [Anchor(head, receipt_uri)], place)
    state = replayed.at(head.sequence)
    if findings or state is None:
        return findings, None
    return [], Receipt(release, told, state)


def audit_receipt(receipt: Receipt, receipt_uri: str) -> list[Finding]:
    """Whether journal and manifest, as they were at signing, give this very statement."""
    told = receipt.statement.predicate
    if receipt.release.manifest is None:
        return [Finding(Code.R003, receipt.release.uri, "its receipt is there, the manifest not")]
    try:
        moment = datetime.fromisoformat(told.time)
    except ValueError:
        return [Finding(Code.R002, receipt_uri, "time: is no time")]
    try:
        again = statement(
            receipt.state,
            [charge.id for charge in told.charges],
            Released(receipt.release.uri, receipt.release.manifest),
            told.budget.name,
            told.spent,
            moment,
            told.operator.version,
        )
    except ReceiptInvalid as error:
        return [Finding(Code.R002, receipt_uri, str(error))]
    differing = list(_differing("", _plain(receipt.statement), _plain(again)))
    return [
        Finding(Code.R002, receipt_uri, f"{field}: is not what journal and manifest give")
        for field in differing[:_MOST_FIELDS]
    ]


def audit_spent(receipt: Receipt, found: Epsilons, receipt_uri: str) -> list[Finding]:
    """Whether the receipt's epsilons are those of all that was committed at signing."""
    spent = receipt.statement.predicate.spent
    own, _ = epsilon_rdp(committed(receipt.state), float(receipt.state.delta))
    figures = [("epsilonRDP", spent.epsilon_rdp, own)]
    if spent.epsilon_pld is not None and found.pld is not None:
        figures.append(("epsilonPLD", spent.epsilon_pld, found.pld))
    wrong = [
        f"spent.{field} is {told}, recomputed {again:.4f}"
        for field, told, again in figures
        if abs(float(told) - again) > _EPSILON
    ]
    if Decimal(spent.delta) != Decimal(receipt.state.delta):
        wrong.append(f"spent.delta is {spent.delta}, the journal has {receipt.state.delta}")
    return [Finding(Code.R002, receipt_uri, what) for what in wrong]


def _paid_for(manifest: Manifest, charge: Charge) -> bool:
    parameters = manifest.parameters
    wanted: Mechanism
    try:
        if isinstance(parameters, TrainParameters):
            worst = parameters.steps + parameters.restarts * parameters.block_steps
            wanted = PoissonSubsampledGaussian(
                batch=parameters.expected_batch_size,
                records=parameters.records,
                noiseMultiplier=parameters.noise_multiplier,
                steps=worst,
            )
        elif isinstance(parameters, HistogramParameters):
            wanted = DiscreteGaussian(noiseMultiplier=parameters.noise_multiplier)
        else:
            return False
    except ValidationError:
        return False
    return wanted == charge.mechanism


def _plain(told: Statement) -> dict[str, object]:
    plain: dict[str, object] = json.loads(told.to_bytes())
    return plain


def _differing(field: str, told: object, again: object) -> list[str]:
    if isinstance(told, Mapping) and isinstance(again, Mapping) and told.keys() == again.keys():
        return [
            each
            for name in told
            for each in _differing(f"{field}.{name}".lstrip("."), told[name], again[name])
        ]
    return [] if told == again else [field]
