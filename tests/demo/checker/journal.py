"""The journal read with other eyes: its chain, its order of events, its spending."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from demo.checker import accounting
from demo.checker.bucket import Bucket, CheckError, sha256, split

UNITS_PER_NAT = 1e15
# Costs are rounded up to a unit; dp-accounting's floats carry about nine digits after conversion.
TOLERANCE = 1e-6
_ENTRY = re.compile(r"/0*(\d+)\.json$")
# Left by the operator's question whether the store honours conditional writes.
_PROBE = "conditional-write-probe"
_NAMES = {"poisson-subsampled-gaussian": "train", "discrete-gaussian": "histogram"}


@dataclass
class Charge:
    """One charge as the entries tell it."""

    reserve: dict[str, Any]
    state: str = "reserved"
    attempts: int = 0
    steps: int = 0
    intended: int = 0
    cost: int = 0

    @property
    def mechanism(self) -> dict[str, Any]:
        """The mechanism's parameters."""
        found: dict[str, Any] = self.reserve["mechanism"]
        return found

    @property
    def worst(self) -> int:
        """Steps that were reserved."""
        return int(self.mechanism.get("steps", 1))


@dataclass
class Replay:
    """What the entries add up to."""

    limit: float
    delta: float
    order: int
    uri: str
    charges: dict[str, Charge] = field(default_factory=dict)
    digests: list[str] = field(default_factory=list)

    @property
    def head(self) -> str:
        """The last entry's digest."""
        return self.digests[-1]

    @property
    def entries(self) -> int:
        """How many there are."""
        return len(self.digests)

    @property
    def allowed(self) -> float:
        """The gate's size in units."""
        return UNITS_PER_NAT * accounting.allowance(self.limit, self.delta, self.order)


def audit(bucket: Bucket, budget: Mapping[str, Any]) -> Replay:
    """The journal, compared with the budget's status. Raises CheckError."""
    name, prefix = split(budget["spec"]["dataset"]["uri"])
    replay = replay_entries(read(bucket, f"s3://{name}/.palimpsest/{prefix}ledger/"))
    limit = budget["spec"]["limit"]
    if (replay.limit, replay.delta) != (float(limit["epsilon"]), float(limit["delta"])):
        raise CheckError("the journal's limit is not the budget's")
    head = budget["status"].get("head", {})
    if (head.get("sequence"), head.get("digest")) != (replay.entries - 1, replay.head):
        raise CheckError("the budget's status does not show the journal's head")
    return replay


def read(bucket: Bucket, location: str) -> list[bytes]:
    """The entries in order. Raises CheckError for a gap or a stranger."""
    found: dict[int, str] = {}
    for uri in bucket.list(location):
        if uri == f"{location}{_PROBE}":
            continue
        match = _ENTRY.search(uri)
        if match is None:
            raise CheckError(f"{uri}: not an entry of the journal")
        found[int(match[1])] = uri
    if sorted(found) != list(range(len(found))) or not found:
        raise CheckError(f"{location}: the sequence has gaps, or there is no entry")
    return [bucket.get(found[sequence]) for sequence in sorted(found)]


def replay_entries(entries: Sequence[bytes]) -> Replay:
    """Follow the entries. Raises CheckError at the first that breaks a rule."""
    replay: Replay | None = None
    for sequence, data in enumerate(entries):
        entry = json.loads(data)
        body = entry["body"]
        if entry["sequence"] != sequence:
            raise CheckError(f"entry {sequence} says that it is {entry['sequence']}")
        if entry["previous"] != (replay.head if replay else None):
            raise CheckError(f"entry {sequence} does not follow entry {sequence - 1}")
        if replay is None:
            if entry["kind"] != "open":
                raise CheckError("the first entry is not `open`")
            gate = body["compartments"][0]["gate"]["orders"][0]
            limit = body["limit"]
            replay = Replay(
                float(limit["epsilon"]), float(limit["delta"]), gate["order"], body["journal"]
            )
        else:
            _follow(replay, sequence, entry["kind"], body)
        replay.digests.append(sha256(data))
        _within(replay, sequence, entry["totals"]["default"])
    if replay is None:
        raise CheckError("the journal is empty")
    return replay


def _follow(replay: Replay, sequence: int, kind: str, body: dict[str, Any]) -> None:
    try:
        if kind in ("tighten", "tombstone"):
            replay.limit = float(body.get("epsilon", replay.limit))
        elif kind == "reserve":
            _reserve(replay, body)
        else:
            charge = replay.charges.get(body["charge"])
            if charge is None or charge.state in ("committed", "released"):
                raise CheckError("no charge that stands")
            _STEPS[kind](replay, charge, body)
    except KeyError as error:
        raise CheckError(f"entry {sequence} ({kind}): unknown kind or field {error}") from error
    except CheckError as error:
        raise CheckError(f"entry {sequence} ({kind}): {error}") from error


def _reserve(replay: Replay, body: dict[str, Any]) -> None:
    known = replay.charges.get(body["charge"])
    if known is not None and known.state != "released":
        raise CheckError("the charge stands already")
    charge = replay.charges[body["charge"]] = Charge(body, cost=body["cost"])
    _priced(replay, charge.mechanism, charge.worst, charge.cost)


def _start(_replay: Replay, charge: Charge, body: dict[str, Any]) -> None:
    charge.attempts, charge.state = charge.attempts + 1, "started"
    if body["attempt"] != charge.attempts:
        raise CheckError("an attempt out of turn")


def _intent(replay: Replay, charge: Charge, body: dict[str, Any]) -> None:
    if body["attempt"] != charge.attempts or not charge.attempts:
        raise CheckError("a block of an attempt that did not start last")
    # A histogram is drawn once, however often it is tried.
    once = charge.mechanism["kind"] == "discrete-gaussian"
    charge.steps = body["steps"] if once else charge.steps + body["steps"]
    charge.intended += body["cost"]
    if charge.steps > charge.worst or charge.intended > charge.cost:
        raise CheckError("more than was reserved")
    _priced(replay, charge.mechanism, charge.steps, charge.intended)


def _commit(_replay: Replay, charge: Charge, body: dict[str, Any]) -> None:
    full = body["basis"] == "full"
    if not charge.attempts or body["cost"] != (charge.cost if full else charge.intended):
        raise CheckError("not what was intended or reserved")
    charge.steps = charge.worst if full else charge.steps
    charge.cost, charge.state = body["cost"], "committed"


def _release(_replay: Replay, charge: Charge, _body: dict[str, Any]) -> None:
    if charge.attempts:
        raise CheckError("the charge had started")
    charge.state = "released"


_STEPS: dict[str, Callable[[Replay, Charge, dict[str, Any]], None]] = {
    "start": _start,
    "intent": _intent,
    "commit": _commit,
    "release": _release,
}


def _priced(replay: Replay, mechanism: dict[str, Any], steps: int, cost: int) -> None:
    """The cost is dp-accounting's: not below it, and above it by rounding only."""
    expected = UNITS_PER_NAT * accounting.renyi([accounting.event(mechanism, steps)], replay.order)
    if not expected * (1 - TOLERANCE) <= cost <= expected * (1 + TOLERANCE) + 100:
        raise CheckError(f"cost {cost}, but dp-accounting has {expected:.0f}")


def _within(replay: Replay, sequence: int, totals: dict[str, int]) -> None:
    committed = sum(c.cost for c in replay.charges.values() if c.state == "committed")
    reserved = sum(c.cost for c in replay.charges.values() if c.state in ("reserved", "started"))
    if (totals["committed"], totals["reserved"]) != (committed, reserved):
        raise CheckError(f"entry {sequence}: its totals are not those of the charges")
    if committed + reserved > replay.allowed * (1 + TOLERANCE):
        raise CheckError(f"entry {sequence}: the gate is overspent")


def figures(replay: Replay) -> dict[str, Any]:
    """Shares and epsilons; what is only reserved counts in full."""
    standing = [charge for charge in replay.charges.values() if charge.state != "released"]
    events = [
        accounting.event(c.mechanism, c.steps if c.state == "committed" else c.worst)
        for c in standing
    ]

    def share(*states: str) -> float:
        return sum(c.cost for c in standing if c.state in states) / replay.allowed

    return {
        "uri": replay.uri,
        "entries": replay.entries,
        "head": replay.head,
        "order": replay.order,
        "shareCommitted": share("committed"),
        "shareReserved": share("reserved", "started"),
        "epsilonSpentRenyi": accounting.epsilon_renyi(events, replay.delta) if events else 0.0,
        "epsilonSpentPld": accounting.epsilon_pld(events, replay.delta) if events else 0.0,
        "charges": [
            {
                "id": charge.reserve["charge"],
                "stage": _NAMES[charge.mechanism["kind"]],
                "subject": "{kind} {namespace}/{name}".format(**charge.reserve["subject"]),
                "mechanism": _describe(charge.mechanism),
                "state": charge.state,
                "attempts": charge.attempts,
                "steps": charge.steps,
                "share": charge.cost / replay.allowed,
            }
            for charge in standing
        ],
    }


def _describe(mechanism: Mapping[str, Any]) -> str:
    noise = mechanism["noiseMultiplier"]
    if mechanism["kind"] == "discrete-gaussian":
        return f"discrete Gaussian, noise {noise}"
    rate = mechanism["batch"] / mechanism["records"]
    return f"Gaussian, noise {noise}, Poisson rate {rate:.4f}"
