"""All that is known of one budget, held together: the report. Pure but for the accountant asked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from securesystemslib.signer import SSlibKey

from palimpsest.api.budget import PrivacyBudget
from palimpsest.api.manifest import Manifest
from palimpsest.audit import accounting, releases
from palimpsest.audit.findings import Code, Finding, Verdict, verdict
from palimpsest.audit.journal import Anchor, Replay, check_anchors, replay
from palimpsest.audit.reference import Answer, Question
from palimpsest.audit.releases import Receipt, Release
from palimpsest.audit.status import audit_status
from palimpsest.ledger.state import LedgerState
from palimpsest.privacy.accountant import AccountantError
from palimpsest.receipts.place import receipt_uri

# (digest, size) of a file by its URI; None for one that is not there.
Files = Mapping[str, tuple[str, int] | None]


@dataclass(frozen=True)
class Evidence:
    """What was read of one budget.

    `objects` are the journal folder's, by name; None where it could not be read. `files` is None
    where files are not to be hashed, `keys` where there are none. `troubles` is what could not be
    read.
    """

    name: str
    place: str
    objects: Mapping[str, bytes] | None
    data_uri: str | None = None
    budget: PrivacyBudget | None = None
    anchors: Sequence[Anchor] = ()
    releases: Sequence[Release] = ()
    keys: Sequence[SSlibKey] | None = None
    files: Files | None = None
    troubles: Sequence[Finding] = ()


@dataclass(frozen=True)
class Report:
    """What a verification found. `spending` is None where no second accountant answered."""

    name: str
    place: str
    findings: tuple[Finding, ...]
    state: LedgerState
    entries: int
    releases: int
    receipts: int
    spending: accounting.Spending | None

    @property
    def verdict(self) -> Verdict:
        """Sound only if everything was checked and nothing found."""
        return verdict(self.findings)


@dataclass
class _Progress:
    findings: list[Finding]
    receipts: list[tuple[str, Receipt]] = field(default_factory=list)
    releases: int = 0


def check(evidence: Evidence, ask: Callable[[Question], Answer]) -> Report:
    """Check everything against everything. `ask` raises AccountantError where it cannot answer."""
    done = _Progress(list(evidence.troubles))
    spending = None
    replayed = Replay((), (), (), ())
    if evidence.objects is not None:
        replayed = replay(evidence.objects, evidence.place, evidence.data_uri)
        done.findings += replayed.findings
        done.findings += check_anchors(replayed, evidence.anchors, evidence.place)
        if evidence.budget is not None:
            spec, status = evidence.budget.spec, evidence.budget.status
            done.findings += audit_status(spec, status, replayed, evidence.name, evidence.place)
        for release in evidence.releases:
            _release(evidence, release, replayed, done)
        if replayed.state.is_open:
            spending = _account(evidence.place, replayed, done, ask)
    return Report(
        name=evidence.name,
        place=evidence.place,
        findings=tuple(dict.fromkeys(done.findings)),
        state=replayed.state,
        entries=len(replayed.moments),
        releases=done.releases,
        receipts=len(done.receipts),
        spending=spending,
    )


def _release(evidence: Evidence, release: Release, replayed: Replay, done: _Progress) -> None:
    manifest = releases.read_manifest(release)
    state = replayed.state
    if isinstance(manifest, Finding):
        done.findings.append(manifest)
        return
    if manifest is not None:
        # Budgets may share a place for releases; where there is no journal, the budget says whose.
        uri = evidence.data_uri if state.data is None else state.data.uri
        if uri is not None and not releases.belongs(manifest, uri):
            return
        done.findings += releases.audit_manifest(release, manifest, state)
        done.findings += _files(evidence.files, release, manifest)
    done.releases += 1
    if manifest is not None and manifest.charge is None:
        return
    where = receipt_uri(release.uri)
    if release.receipt is not None and evidence.keys is None:
        done.findings.append(Finding(Code.R004, evidence.name, "receipts cannot be checked"))
        return
    found, receipt = releases.open_receipt(
        release, evidence.keys or (), replayed, where, evidence.place
    )
    done.findings += found
    if receipt is not None:
        done.findings += releases.audit_receipt(receipt, where)
        done.receipts.append((where, receipt))


def _files(files: Files | None, release: Release, manifest: Manifest) -> list[Finding]:
    if files is None:
        return []
    return [
        finding
        for file in manifest.files
        if release.prefix + file.path in files
        for finding in releases.audit_file(
            release, file.path, (file.digest, file.size), files[release.prefix + file.path]
        )
    ]


def _account(
    place: str, replayed: Replay, done: _Progress, ask: Callable[[Question], Answer]
) -> accounting.Spending | None:
    states = [receipt.state for _, receipt in done.receipts]
    try:
        answer = ask(accounting.question(replayed, states))
    except AccountantError as error:
        done.findings.append(Finding(Code.A004, place, str(error)))
        return None
    done.findings += accounting.judge_costs(replayed, answer, place)
    done.findings += accounting.judge_total(replayed.state, answer, place)
    for (where, receipt), found in zip(done.receipts, answer.groups[2:], strict=True):
        done.findings += releases.audit_spent(receipt, found, where)
    return accounting.spending(replayed.state, answer)
