"""When an endpoint is asked again, and when no more. Pure: the time is given."""

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from palimpsest.api.outcomes import Outcome

LONGEST_PAUSE = 60.0
# How often an endpoint fails at an instruction before it is looked whether it fails at that alone,
# and how often that must then be found. A server that fails at every second request by chance
# fails so often in a row once in 2^15.
MOST_FAILURES, MOST_ALONE = 12, 3
# So many rejected instructions without a single answer are no longer about the instructions.
MOST_REJECTED = 20


def backoff(failures: int, chance: float) -> float:
    """Seconds until a request that failed so often is repeated; `chance` is uniform over [0, 1).

    Exponential with full jitter (Brooker 2015): requests that failed together come apart.
    """
    return chance * min(LONGEST_PAUSE, 2.0 ** min(failures, 16))


def retry_after(header: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or as a date; None if it is none."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            moment = parsedate_to_datetime(header)
        except (ValueError, IndexError, OverflowError):
            return None
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (aware - now).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def status_outcome(status: int) -> Outcome | None:
    """What a status other than 200 means; None: that this one instruction is not taken."""
    if status in (400, 413, 422):
        return None
    if status in (401, 402, 403):
        return Outcome.ENDPOINT_ACCESS_DENIED
    if status in (404, 405, 410) or 300 <= status < 400:
        return Outcome.ENDPOINT_NOT_FOUND
    if status == 429:
        return Outcome.ENDPOINT_RATE_LIMITED
    if status in (408, 425):
        return Outcome.ENDPOINT_TIMED_OUT
    if status >= 500:
        return Outcome.ENDPOINT_FAILING
    return Outcome.ENDPOINT_GARBLED if status < 400 else Outcome.ENDPOINT_REFUSED


# What may go by, so that the request is repeated.
PASSING = frozenset(
    {
        Outcome.ENDPOINT_UNREACHABLE,
        Outcome.ENDPOINT_TIMED_OUT,
        Outcome.ENDPOINT_FAILING,
        Outcome.ENDPOINT_RATE_LIMITED,
        Outcome.ENDPOINT_GARBLED,
    }
)
# And what may be the instruction's own doing: a server that breaks at it, or never ends.
OWN = frozenset({Outcome.ENDPOINT_TIMED_OUT, Outcome.ENDPOINT_FAILING, Outcome.ENDPOINT_GARBLED})


@dataclass
class Gate:
    """Spaces requests evenly, and lets none through before an endpoint wants any again."""

    per_minute: int | None
    _next: float = 0.0

    def wait(self, now: float) -> float:
        """Seconds until a request may go; 0.0 lets one go now."""
        if now < self._next:
            return self._next - now
        if self.per_minute is not None:
            self._next = now + 60 / self.per_minute
        return 0.0

    def hold(self, until: float) -> None:
        """Let nothing go before."""
        self._next = max(self._next, until)


@dataclass
class Patience:
    """How long nothing has succeeded that was asked, and what was seen instead."""

    seconds: float
    _succeeded: float = -math.inf
    _since: float | None = None
    _seen: Counter[Outcome] = field(default_factory=Counter)

    def success(self, now: float) -> None:
        """An answer came: all is forgiven."""
        self._succeeded, self._since = now, None
        self._seen.clear()

    def failure(self, seen: Outcome, begun: float) -> None:
        """A request that began then failed."""
        self._seen[seen] += 1
        if self._since is None:
            self._since = max(begun, self._succeeded)

    def left(self, now: float) -> float:
        """Seconds until it is spent; infinite while nothing failed since the last success."""
        return math.inf if self._since is None else max(0.0, self._since + self.seconds - now)

    @property
    def mostly(self) -> Outcome:
        """What was seen most often since the last success."""
        return self._seen.most_common(1)[0][0]
