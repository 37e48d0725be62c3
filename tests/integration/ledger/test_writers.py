"""Fifty writers in four processes, some of which die between a write and its answer."""

from __future__ import annotations

import secrets
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from faults.behaviour import following, leading, met
from faults.nursery import Child, Nursery
from faults.proxy import Call, Exchange, Fault, Proxy, Rule, passed
from integration.ledger.conftest import PROCESSES
from integration.ledger.facts import entries_of, kinds
from integration.ledger.ground import opened
from integration.ledger.victim import NOISE, STEPS
from palimpsest.ledger import Journal
from palimpsest.storage import S3Store
from unit.ledger.folder_store import training

WRITERS, FITTING = 50, 7
ROUNDS, ROUNDS_IN_CI = 20, 5
WAIT_SECONDS = 60

rounds = pytest.mark.parametrize(
    "turn",
    [
        pytest.param(turn, marks=[] if turn < ROUNDS_IN_CI else pytest.mark.full)
        for turn in range(ROUNDS)
    ],
)


def _fatal(child: Child) -> Fault:
    """The process dies once its write was taken, before it knows of it."""

    async def fault(exchange: Exchange) -> None:
        answer = await exchange.forward()
        if answer.first[1] == "200":
            child.kill()
            exchange.hang_up()
        else:
            await exchange.answer(answer.bytes)

    return fault


class Start:
    """Every process has read the journal and is about to write when the first write goes through.

    So no process finds the budget full before it has tried.
    """

    def __init__(self) -> None:
        self._ready = threading.Barrier(PROCESSES, timeout=WAIT_SECONDS)
        self._first = threading.Event()

    def rule(self, lane: int, fault: Fault) -> Rule:
        """The first lane's first write is the first of all."""
        begun = False

        def rule(call: Call) -> Fault:
            nonlocal begun
            if not call.writes:
                return passed
            if begun:
                return following(self._first, WAIT_SECONDS, fault)
            begun = True
            if lane == 0:
                return met(self._ready, leading(self._first, fault))
            return met(self._ready, following(self._first, WAIT_SECONDS, fault))

        return rule


@rounds
def test_exactly_what_fits_is_granted(
    turn: int, nursery: Nursery, proxies: list[Proxy], operator: S3Store
) -> None:
    journal = opened(operator, f"writers-{secrets.token_hex(4)}")
    price = journal.state.price(training(NOISE, STEPS))
    assert journal.state.limit_units // price == FITTING
    names = [[f"w{writer}" for writer in range(WRITERS)][lane::PROCESSES] for lane in range(4)]
    doomed = turn % PROCESSES  # from none to three of the four
    start = Start()

    def ask(lane: int, child: Child) -> list[str] | None:
        question = {"lane": lane, "uri": journal.uri, "names": names[lane]}
        granted: list[str] | None = child.ask(question)
        return granted

    with ThreadPoolExecutor(PROCESSES) as pool:
        children = [nursery.child() for _ in range(PROCESSES)]
        for lane, (proxy, child) in enumerate(zip(proxies, children, strict=True)):
            proxy.watch(start.rule(lane, _fatal(child) if lane < doomed else passed))
        answers = list(pool.map(ask, range(PROCESSES), children))
        assert (answers[0] is None) == (doomed > 0)
        # Started again, a process asks for the same and finds what its writes had taken.
        for proxy in proxies:
            proxy.watch()
        children = [nursery.child() for _ in range(PROCESSES)]
        granted = [
            name for found in pool.map(ask, range(PROCESSES), children) for name in found or []
        ]
    told = {name for answer in answers for name in answer or []}
    entries = entries_of(operator, journal.uri)
    assert kinds(entries) == ["open"] + ["reserve"] * FITTING
    held = {entry["body"]["subject"]["name"] for entry in entries[1:]}
    assert told <= held == set(granted)
    assert len(granted) == FITTING
    state = Journal(operator, journal.uri).refresh()
    assert state.reserved == FITTING * price <= state.limit_units
