"""A journal's costs held against a second implementation of the mathematics. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from palimpsest.audit.findings import Code, Finding
from palimpsest.audit.journal import Priced, Replay
from palimpsest.audit.reference import Answer, Epsilons, Question
from palimpsest.ledger.state import LedgerState
from palimpsest.privacy.accountant import epsilon_rdp
from palimpsest.privacy.gate import UNITS_PER_NAT
from palimpsest.privacy.mechanisms import Mechanism, one_step
from palimpsest.receipts.spending import committed

# Costs are exact and rounded up to a unit. The other side is a float sum about 1 that carries an
# absolute error of a few 1e-16 a step.
_COST_TOLERANCE = 1e-9
_STEP_SLACK = 1e-14
_SLACK = 1e-11
# dp-accounting leaves out orders at which its alternating series does not converge: it may be
# above, but a figure of ours above it would be wrong.
_RDP_BELOW = 0.02
_RDP_ABOVE = 1e-3
# PLD is the tighter bound; its discretisation costs a little.
_PLD_ABOVE = 1e-2
_LIMIT_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Spending:
    """Epsilon of a journal's charges at its delta: ours and dp-accounting's two."""

    own: float
    reference: Epsilons


def steps_of(replayed: Replay) -> list[Mechanism]:
    """One step of every mechanism that the journal prices, each once."""
    return list(dict.fromkeys(one_step(each.mechanism) for each in replayed.priced))


def standing(state: LedgerState) -> list[Mechanism]:
    """What the committed charges ran, and all that is reserved."""
    return committed(state) + [c.mechanism for c in state.charges.values() if c.active]


def question(replayed: Replay, others: Sequence[LedgerState] = ()) -> Question:
    """What the second accountant is asked: prices, what is standing, what is committed.

    `others` are earlier states whose committed charges are asked for too.
    """
    state = replayed.state
    return Question(
        order=state.order,
        delta=float(state.delta),
        steps=steps_of(replayed),
        groups=[standing(state), committed(state), *map(committed, others)],
    )


def judge_costs(replayed: Replay, answer: Answer, place: str) -> list[Finding]:
    """Every cost in the journal that is not what dp-accounting computes at the gate's order."""
    nats = dict(zip(steps_of(replayed), answer.nats, strict=True))
    return [
        Finding(
            Code.A001,
            f"{place}{each.sequence:012d}.json",
            f"cost {each.cost}, but dp-accounting has {truth * UNITS_PER_NAT:.0f} units of "
            f"{each.steps} steps",
        )
        for each in replayed.priced
        if not _right(each, truth := nats[one_step(each.mechanism)] * each.steps)
    ]


def judge_total(state: LedgerState, answer: Answer, place: str) -> list[Finding]:
    """Whether two accountants agree, and whether all that stands is within the limit."""
    findings = []
    limit = float(state.epsilon) * (1 + _LIMIT_TOLERANCE)
    for name, mechanisms, found in (
        ("all that is committed or reserved", standing(state), answer.groups[0]),
        ("all that is committed", committed(state), answer.groups[1]),
    ):
        findings += _judge(name, mechanisms, found, state, place)
        for accountant, epsilon in (("Rényi", found.rdp), ("PLD", found.pld)):
            if epsilon is not None and epsilon > limit:
                what = f"{name} is epsilon {epsilon:.4f} ({accountant}), above {state.epsilon}"
                findings.append(Finding(Code.A003, place, what))
    return findings


def spending(state: LedgerState, answer: Answer) -> Spending:
    """What the committed charges spent."""
    return Spending(epsilon_rdp(committed(state), float(state.delta))[0], answer.groups[1])


def agrees(own: float, found: Epsilons) -> bool:
    """Whether our Rényi epsilon and dp-accounting's two go together."""
    above = own * (1 + _RDP_ABOVE) + _PLD_ABOVE
    return (
        found.rdp * (1 - _RDP_BELOW) - _RDP_ABOVE <= own <= found.rdp * (1 + _RDP_ABOVE) + 1e-6
    ) and (found.pld is None or found.pld <= above)


def _judge(
    name: str,
    mechanisms: list[Mechanism],
    found: Epsilons,
    state: LedgerState,
    place: str,
) -> list[Finding]:
    findings = []
    own, _ = epsilon_rdp(mechanisms, float(state.delta))
    if not agrees(own, found):
        what = f"{name}: epsilon {own:.4f} (Rényi), dp-accounting has {found.rdp:.4f} (Rényi)"
        if found.pld is not None:
            what += f" and {found.pld:.4f} (PLD)"
        findings.append(Finding(Code.A002, place, what))
    if found.pld is None:
        what = f"{name}: PLD left out, as a noise multiplier is so small"
        findings.append(Finding(Code.A005, place, what))
    return findings


def _right(priced: Priced, truth: float) -> bool:
    slack = (priced.steps * _STEP_SLACK + _SLACK) * UNITS_PER_NAT
    expected = truth * UNITS_PER_NAT
    tolerance = expected * _COST_TOLERANCE + slack
    return abs(priced.cost - expected) <= tolerance
