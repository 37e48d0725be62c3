"""What a step's words about the API server and the store mean for the calls that follow."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count

from faults import apiserver, behaviour
from faults.proxy import Call, Fault, Rule, pass_all

Chosen = Callable[[Call], Fault | None]
# A minute's outage, as long as a sequence can afford.
DOWN_SECONDS = 0.7


def of_api(word: str, number: int) -> Chosen:
    """Of the API server."""
    match word:
        case "is down":
            return during(number * DOWN_SECONDS, behaviour.lost)
        case "finds conflicts":
            conflict = apiserver.refused(409, "Conflict")
            return first(number, conflict, lambda call: call.method in ("PUT", "PATCH"))
        case "refuses calls":
            return first(number, apiserver.refused(500, "InternalError"))
        case "is slow down":
            return first(number, apiserver.refused(429, "TooManyRequests"))
        case _:
            return first(number, _lost(word), lambda call: call.writes)


def of_store(word: str, number: int) -> Rule:
    """Of the store."""
    match word:
        case "is down":
            chosen = during(number * DOWN_SECONDS, behaviour.lost)
        case "refuses calls":
            chosen = first(number, behaviour.refused(500, "InternalError"))
        case "is slow down":
            chosen = first(number, behaviour.refused(503, "SlowDown"))
        case _:
            chosen = first(number, _lost(word), lambda call: call.writes)
    return lambda call: chosen(call) or pass_all(call)


def _lost(word: str) -> Fault:
    return {
        "loses answers to writes": behaviour.lost_after,
        "never hears writes": behaviour.lost,
    }[word]


def during(seconds: float, fault: Fault) -> Chosen:
    """For so long from now."""
    until = time.monotonic() + seconds
    return lambda _: fault if time.monotonic() < until else None


def first(number: int, fault: Fault, chosen: Callable[[Call], bool] = lambda _: True) -> Chosen:
    """The next so many that are chosen."""
    turn = count()
    return lambda call: fault if chosen(call) and next(turn) < number else None


def gone_watches() -> Chosen:
    """Watches that open within a second are told that their version is too old."""
    told = during(1.0, apiserver.refused(410, "Expired"))
    return lambda call: told(call) if apiserver.watches(call) else None
