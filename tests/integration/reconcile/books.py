"""The auditor's own books: each journal entry read from the store, and added up anew.

Only what an entry says is believed; the ledger's code replays it beside, and both must agree.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import Any

from palimpsest.audit.journal import Replay, replay
from palimpsest.ledger.nesting import entry as entry_uri
from palimpsest.ledger.nesting import location
from palimpsest.storage import NotFound, S3Store, canonical_prefix

Json = dict[str, Any]
Work = tuple[str, str]


@dataclass
class Line:
    """One charge, as the entries so far tell it."""

    id: str
    work: Work
    reserved: int
    made_at: str
    state: str = "reserved"
    attempts: int = 0
    intended: int = 0
    spent: int = 0

    @property
    def active(self) -> bool:
        """Whether it holds something back."""
        return self.state in ("reserved", "started")


@dataclass
class Facts:
    """What only the test knows: which attempts were disrupted from outside, what was published."""

    disrupted: set[tuple[str, int]] = field(default_factory=set)
    published: set[str] = field(default_factory=set)


class Books:
    """One journal. Its entries may be read by the proxy's thread and the test's."""

    def __init__(self, store: S3Store, uri: str, facts: Facts) -> None:
        self._store = store
        self._uri = canonical_prefix(uri)
        self._facts = facts
        self._turn = threading.Lock()
        self._entries: list[bytes] = []
        self.lines: dict[str, Line] = {}
        self.committed = self.reserved = 0
        self.broken: list[str] = []

    def read(self) -> int:
        """Read on; the number of entries."""
        with self._turn:
            while True:
                try:
                    data = self._store.get(entry_uri(self._uri, len(self._entries)))
                except NotFound:
                    return len(self._entries)
                self._entries.append(data)
                self._take(json.loads(data))

    @property
    def published(self) -> set[str]:
        """The charges whose stage published."""
        return self._facts.published

    def line(self, charge: str) -> Line | None:
        """A charge."""
        return self.lines.get(charge)

    def of(self, work: Work) -> Line | None:
        """The charge of a resource: it has one at most."""
        return next((line for line in self.lines.values() if line.work == work), None)

    def replayed(self) -> Replay:
        """The journal by the ledger's own rules, with what it finds."""
        objects = {f"{n:012d}.json": data for n, data in enumerate(list(self._entries))}
        return replay(objects, location(self._uri), self._uri)

    def unchanged(self) -> bool:
        """Whether what was read once is still there, byte by byte, and nothing lies beside it."""
        names = {
            uri.rpartition("/")[2]
            for uri in self._store.list(location(self._uri))
            if uri.endswith(".json")
        }
        known = {f"{n:012d}.json" for n in range(len(self._entries))}
        return names <= known | {"probe.json"} and all(
            self._store.get(entry_uri(self._uri, n)) == data
            for n, data in enumerate(list(self._entries))
        )

    def _take(self, entry: Json) -> None:
        kind, body = entry["kind"], entry["body"]
        before = self.committed
        if kind == "reserve":
            self._reserve(entry, body)
        elif kind in ("start", "intent", "commit", "release"):
            line = self.lines.get(body["charge"])
            if line is None or not line.active:
                self._break(f"{kind} of a charge that holds nothing", entry)
                return
            self._move(kind, line, body, entry)
        totals = entry["totals"]["default"]
        self._hold(
            (totals["committed"], totals["reserved"]) == (self.committed, self.reserved),
            "the totals are not the sum of the charges",
            entry,
        )
        self._hold(self.committed >= before, "committed spending shrank", entry)

    def _reserve(self, entry: Json, body: Json) -> None:
        known = self.lines.get(body["charge"])
        work = body["subject"]["kind"], body["subject"]["name"]
        self._hold(known is None or known.state == "released", "charged twice", entry)
        other = self.of(work)
        # A sequence never changes what a resource's private stage is to do.
        self._hold(
            other is None or other.id == body["charge"], f"{work} has a second charge", entry
        )
        self.lines[body["charge"]] = Line(body["charge"], work, body["cost"], entry["time"])
        self.reserved += body["cost"]

    def _move(self, kind: str, line: Line, body: Json, entry: Json) -> None:
        if kind == "start":
            self._hold(body["attempt"] == line.attempts + 1, "an attempt started twice", entry)
            line.state, line.attempts = "started", body["attempt"]
        elif kind == "intent":
            self._hold(body["attempt"] == line.attempts, "not the attempt that started", entry)
            line.intended += body["cost"]
        elif kind == "release":
            self._hold(line.attempts == 0, "given back after a start", entry)
            line.state = "released"
            self.reserved -= line.reserved
        else:
            self._commit(line, body, entry)

    def _commit(self, line: Line, body: Json, entry: Json) -> None:
        self._hold(line.attempts > 0, "committed without a start", entry)
        self._hold(line.intended <= line.reserved, "more intended than reserved", entry)
        if body["basis"] == "full":
            self._hold(body["cost"] == line.reserved, "in full, for less", entry)
        else:
            self._hold(body["cost"] == line.intended, "not what was intended", entry)
            witnessed = (
                line.id in self._facts.published
                if body["basis"] == "completed"
                else (line.id, line.attempts) in self._facts.disrupted
            )
            self._hold(witnessed, f"{body['basis']}, which nobody saw", entry)
        line.state, line.spent = "committed", body["cost"]
        self.committed += body["cost"]
        self.reserved -= line.reserved

    def _hold(self, holds: bool, what: str, entry: Json) -> None:
        if not holds:
            self._break(what, entry)

    def _break(self, what: str, entry: Json) -> None:
        self.broken.append(f"entry {entry['sequence']} ({entry['kind']}): {what}")
