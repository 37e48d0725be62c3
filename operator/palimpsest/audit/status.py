"""A PrivacyBudget's spec and status held against its journal. Pure."""

from decimal import Decimal, InvalidOperation

from palimpsest.api.budget import ChargeSummary, PrivacyBudgetSpec, PrivacyBudgetStatus
from palimpsest.audit.findings import Code, Finding
from palimpsest.audit.journal import Anchor, Replay, check_anchors
from palimpsest.ledger.state import Head, LedgerState

# Statuses show four decimals.
_STEP = Decimal("0.0001")


def audit_status(
    spec: PrivacyBudgetSpec,
    status: PrivacyBudgetStatus | None,
    replayed: Replay,
    budget: str,
    place: str,
) -> list[Finding]:
    """What a budget says otherwise than its journal; its status is checked as of its own head."""
    where = f"PrivacyBudget {budget}"
    findings = _spec(spec, replayed.state, where) if replayed.state.is_open else []
    if status is None or status.head is None:
        return [*findings, Finding(Code.S003, where, "its status shows no journal's head yet")]
    head = Head(status.head.sequence, status.head.digest)
    findings += check_anchors(replayed, [Anchor(head, f"{where}'s status")], place)
    then = replayed.at(head.sequence)
    if then is None or then.head != head:
        return findings
    wrong = [
        f"status.{field} is {told}, but entry {head.sequence} has {there}"
        for field, told, there in _figures(status, then)
    ]
    return findings + [Finding(Code.S001, where, what) for what in wrong]


def _spec(spec: PrivacyBudgetSpec, state: LedgerState, where: str) -> list[Finding]:
    data, dataset, limit = state.data, spec.dataset, spec.limit
    if data is None:
        return []
    pairs: list[tuple[str, object, object]] = [
        ("spec.dataset.format", dataset.format, data.format),
        ("spec.dataset.textField", dataset.text_field, data.textField),
        ("spec.dataset.records", dataset.records, data.records),
        ("spec.dataset.privacyUnit", dataset.privacy_unit, data.privacyUnit),
        ("spec.limit.delta", Decimal(limit.delta), Decimal(state.delta)),
        ("spec.limit.epsilon", Decimal(limit.epsilon), Decimal(state.epsilon)),
    ]
    return [
        Finding(Code.S002, where, f"{field} is {here}, but the journal has {there}")
        for field, here, there in pairs
        if here != there
    ]


def _figures(status: PrivacyBudgetStatus, then: LedgerState) -> list[tuple[str, object, object]]:
    """(field, told, the journal's) of everything that differs."""
    wrong: list[tuple[str, object, object]] = []
    if status.gate_order != then.order:
        wrong.append(("gateOrder", status.gate_order, then.order))
    if status.shares is None:
        wrong.append(("shares", "missing", "three"))
    else:
        for name, told, units in (
            ("committed", status.shares.committed, then.committed),
            ("reserved", status.shares.reserved, then.reserved),
            ("left", status.shares.left, then.left),
        ):
            if not _shows(told, units, then.limit_units):
                wrong.append((f"shares.{name}", told, _exact(units, then.limit_units)))
    for index, summary in enumerate(status.charges):
        wrong += _charge(f"charges[{index}]", summary, then)
    return wrong


def _charge(
    field: str, summary: ChargeSummary, then: LedgerState
) -> list[tuple[str, object, object]]:
    known = then.charges.get(summary.id)
    if known is None:
        return [(f"{field}.id", summary.id, "no such charge")]
    subject = known.subject
    pairs = [
        ("subject", summary.subject, f"{subject.kind}/{subject.namespace}/{subject.name}"),
        ("state", summary.state, known.status.capitalize()),
    ]
    wrong: list[tuple[str, object, object]] = [
        (f"{field}.{name}", told, there) for name, told, there in pairs if told != there
    ]
    if not _shows(summary.share, known.cost, then.limit_units):
        wrong.append((f"{field}.share", summary.share, _exact(known.cost, then.limit_units)))
    return wrong


def _shows(told: str, units: int, limit: int) -> bool:
    """Whether a share with four decimals is that of the units, rounded either way."""
    try:
        return abs(Decimal(told) - Decimal(units) / limit) < _STEP
    except InvalidOperation:
        return False


def _exact(units: int, limit: int) -> str:
    return f"{Decimal(units) / limit:.6f}"
