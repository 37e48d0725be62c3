"""A journal's bytes replayed: every entry parsed, chained, checked by every rule.

The rules are the ledger's own (`LedgerState`); what a replay cannot know is said by anchors, the
entries that others remember: a status, a receipt, a note of the custodian.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count, islice, takewhile

from palimpsest.audit.findings import Code, Finding
from palimpsest.ledger.entries import Entry, Intent, Reserve, digest, parse
from palimpsest.ledger.errors import LedgerError
from palimpsest.ledger.nesting import MARK
from palimpsest.ledger.state import Head, LedgerState
from palimpsest.privacy.mechanisms import Mechanism, worst_steps
from palimpsest.storage.probe import PROBE

_ENTRY = re.compile(r"([0-9]{12})\.json", re.ASCII)
# What the operator leaves beside the entries.
_KNOWN = {MARK, PROBE}
_SHOWN = 5


@dataclass(frozen=True)
class Priced:
    """What the journal says that some steps of a mechanism cost, in units."""

    sequence: int
    mechanism: Mechanism
    steps: int
    cost: int


@dataclass(frozen=True)
class Moment:
    """The journal after an entry."""

    time: str
    entry: str
    state: LedgerState


@dataclass(frozen=True)
class Anchor:
    """An entry that somebody remembers."""

    head: Head
    source: str


@dataclass(frozen=True)
class Replay:
    """What a journal says, up to the first entry that does not follow."""

    findings: tuple[Finding, ...]
    moments: tuple[Moment, ...]
    digests: tuple[str, ...]
    priced: tuple[Priced, ...]

    @property
    def state(self) -> LedgerState:
        """The last state that follows."""
        return self.moments[-1].state if self.moments else LedgerState()

    @property
    def whole(self) -> bool:
        """Whether every entry follows."""
        return len(self.moments) == len(self.digests) > 0

    def at(self, sequence: int) -> LedgerState | None:
        """The state after an entry, None if the replay did not come so far."""
        return self.moments[sequence].state if 0 <= sequence < len(self.moments) else None


def replay(objects: Mapping[str, bytes], place: str, data_uri: str | None = None) -> Replay:
    """Replay the objects of a journal's folder, by name; `place` is the folder's address.

    `data_uri` is the canonical URI of the data that the journal must belong to; without one it is
    believed whose it says it is.
    """
    findings = [
        Finding(Code.J001, f"{place}{name}", "is no entry of a journal")
        for name in sorted(objects)
        if name not in _KNOWN and not _ENTRY.fullmatch(name)
    ]
    entries = {
        int(match[1]): objects[match[0]] for match in map(_ENTRY.fullmatch, objects) if match
    }
    if not entries:
        empty = Finding(Code.J009, place, "there is no journal")
        return Replay((*findings, empty), (), (), ())
    last = max(entries)
    missing = last + 1 - len(entries)
    if missing:
        first = list(islice((n for n in count() if n not in entries), min(missing, _SHOWN)))
        more = f" and {missing - len(first)} more" if missing > len(first) else ""
        names = ", ".join(map(str, first)) + more
        findings.append(Finding(Code.J002, place, f"entry {names} missing before entry {last}"))
    steps = _Steps(place, data_uri)
    for sequence in sorted(entries):
        steps.take(sequence, entries[sequence])
    return Replay(
        (*findings, *steps.findings),
        tuple(steps.moments),
        tuple(map(steps.digests.__getitem__, takewhile(steps.digests.__contains__, count()))),
        tuple(steps.priced),
    )


class _Steps:
    """The replay in progress. After the first break entries are still parsed and chained."""

    def __init__(self, place: str, data_uri: str | None) -> None:
        self._place, self._data_uri = place, data_uri
        self._state: LedgerState | None = LedgerState()
        self.findings: list[Finding] = []
        self.moments: list[Moment] = []
        self.digests: dict[int, str] = {}
        self.priced: list[Priced] = []

    def take(self, sequence: int, data: bytes) -> None:
        self.digests[sequence] = digest(data)
        try:
            entry = parse(data)
        except LedgerError as error:
            return self._break(Code.J003, sequence, str(error))
        if entry.sequence != sequence:
            return self._break(Code.J004, sequence, f"says that it is entry {entry.sequence}")
        before = self.digests.get(sequence - 1)
        if entry.previous != before and (before is not None or sequence == 0):
            return self._break(
                Code.J004,
                sequence,
                f"names {entry.previous} as the entry before it, which is {before}: one of the two "
                "was changed",
            )
        if self._state is None or len(self.moments) != sequence:
            self._state = None
            return None
        try:
            after = self._state.apply(entry, self.digests[sequence])
        except LedgerError as error:
            return self._break(Code.J005, sequence, str(error))
        if after.data is None or self._data_uri not in (None, after.data.uri):
            named = after.data.uri if after.data else None
            return self._break(
                Code.J006, sequence, f"the journal is of {named}, not of {self._data_uri}"
            )
        self._note(entry, after)
        return None

    def _note(self, entry: Entry, after: LedgerState) -> None:
        self._state = after
        self.moments.append(Moment(entry.time, entry.kind, after))
        body = entry.body
        if isinstance(body, Reserve):
            worst = worst_steps(body.mechanism)
            self.priced.append(Priced(entry.sequence, body.mechanism, worst, body.cost))
        elif isinstance(body, Intent):
            charge = after.charges[body.charge]
            self.priced.append(
                Priced(
                    entry.sequence, charge.mechanism, charge.intended_steps, charge.intended_cost
                )
            )

    def _break(self, code: Code, sequence: int, what: str) -> None:
        place = f"{self._place}{sequence:012d}.json"
        self.findings.append(Finding(code, place, what))
        self._state = None


def check_anchors(replayed: Replay, anchors: Iterable[Anchor], place: str) -> list[Finding]:
    """What others remember and the journal no longer holds: truncation, forks, swapped journals."""
    findings = []
    for anchor in anchors:
        head = anchor.head
        if head.sequence >= len(replayed.digests):
            what = f"ends before entry {head.sequence}, which {anchor.source} remembers"
            findings.append(Finding(Code.J007, place, what))
        elif replayed.digests[head.sequence] != head.digest:
            what = f"entry {head.sequence} is not the one that {anchor.source} remembers"
            findings.append(Finding(Code.J008, place, what))
    return findings
