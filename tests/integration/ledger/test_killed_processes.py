"""A process that dies at any call to the store, of any operation: nothing is lost or paid twice."""

from __future__ import annotations

import secrets

import pytest
from faults.behaviour import Side, dying
from faults.nursery import Nursery
from faults.proxy import Proxy, pass_all
from integration.ledger.facts import entries_of, kinds
from integration.ledger.operations import OPERATIONS, Spot, prepare, spots, summary
from palimpsest.ledger import Journal
from palimpsest.storage import S3Store

# What a restarted process adds, whatever was there: a stage's next attempt, and its block.
RESTART = {"start": ["start"], "intent": ["start", "intent"]}


class Deaths:
    """Runs one operation in processes of their own."""

    def __init__(self, nursery: Nursery, proxy: Proxy, operator: S3Store, operation: str) -> None:
        self.nursery, self.proxy, self.operator = nursery, proxy, operator
        self.operation = operation

    def prepared(self) -> str:
        """A journal of its own, at the operation's doorstep."""
        uri = f"s3://private/killed/{secrets.token_hex(6)}/"
        prepare(self.operation, self.operator, uri)
        return uri

    def run(self, uri: str, again: bool = False, dies: tuple[Spot, Side] | None = None) -> bool:
        """Do the operation; False if the process died at that call, on that side of it."""
        child = self.nursery.child()
        self.proxy.watch(dies[0].rule(uri, dying(child.kill, dies[1])) if dies else pass_all)
        question = {"lane": 0, "operation": self.operation, "uri": uri, "again": again}
        return child.ask(question) is True


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_process_killed_at_any_call_and_started_again(
    operation: str, side: Side, nursery: Nursery, proxies: list[Proxy], operator: S3Store
) -> None:
    deaths = Deaths(nursery, proxies[0], operator, operation)
    clean = deaths.prepared()
    assert deaths.run(clean)
    calls = spots(deaths.proxy.calls, clean)
    entry = next(number for number, call in enumerate(calls) if call.entry)
    expected = summary(Journal(operator, clean).refresh())
    told = kinds(entries_of(operator, clean))
    for number, call in enumerate(calls):
        uri = deaths.prepared()
        assert not deaths.run(uri, dies=(call, side))
        left = kinds(entries_of(operator, uri))
        written = number > entry or (number == entry and side == "after")
        assert left == (told if written else told[:-1])
        assert deaths.run(uri, again=True)
        found = kinds(entries_of(operator, uri))
        assert found == (left + RESTART[operation] if operation in RESTART else told)
        assert summary(Journal(operator, uri).refresh()) == expected
