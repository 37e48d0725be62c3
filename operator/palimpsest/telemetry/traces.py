"""One trace for each generation of a resource, from its creation to what it publishes.

Trace and root follow from UID and generation: the operator, the one that follows it and the
admission pods agree on them, and nothing is stored. OpenTelemetry is imported only where spans go
somewhere (`otlp`). No time here is finer than a status tells it of a stage that reads private
records: a reconcile, which such a stage's end wakes, begins at its whole second.
"""

import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime

from .catalogue import BOTH, Process, counter, start_at_zero

ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"
RATIO_VARIABLE = "OTEL_TRACES_SAMPLER_ARG"
_SECOND = 10**9
_OUTCOMES = ("exported", "failed", "dropped")

SPANS = counter(
    "palimpsest_trace_spans_total",
    "spans",
    "Spans by what became of them: taken by the collector, refused by it (or it did not answer), "
    "dropped because too many waited for it.",
    {"outcome": _OUTCOMES},
    BOTH,
)
start_at_zero(SPANS, _OUTCOMES)


@dataclass(frozen=True)
class Trace:
    """A resource's generation."""

    kind: str
    namespace: str
    name: str
    uid: str
    generation: int

    @property
    def id(self) -> int:
        """Of the trace: 16 bytes."""
        return self._number(16)

    @property
    def hex(self) -> str:
        """The same as backends and logs write it."""
        return f"{self.id:032x}"

    @property
    def root(self) -> int:
        """Of the span under which all others are, known before it ends: 8 bytes."""
        return self.span_id("root")

    def span_id(self, *parts: str) -> int:
        """Of a span that is the same whoever tells of it."""
        return self._number(8, *parts)

    def _number(self, size: int, *parts: str) -> int:
        data = "\n".join(("palimpsest", self.uid, str(self.generation), *parts)).encode()
        return int.from_bytes(hashlib.sha256(data).digest()[:size], "big")


@dataclass(frozen=True)
class Span:
    """What happened, in nanoseconds since 1970. `error` is a word from a closed set."""

    trace: Trace
    id: int
    parent: int | None
    name: str
    begun: int
    ended: int
    attributes: Mapping[str, str | bool] = field(default_factory=dict)
    error: str = ""
    links: tuple[Trace, ...] = ()


Sink = Callable[[Span], None]
_sink: Sink | None = None
_close: Callable[[], None] | None = None


def configure(process: Process) -> None:
    """Export spans where the environment names an endpoint. Raises ValueError for a bad ratio."""
    global _sink, _close
    if not os.environ.get(ENDPOINT_VARIABLE):
        return
    # Megabytes of memory that an operator without traces does not have.
    from .otlp import Exporting  # noqa: PLC0415

    exporting = Exporting(process, float(os.environ.get(RATIO_VARIABLE) or 1))
    _sink, _close = exporting.emit, exporting.close


def close() -> None:
    """Send what waits, if that is quick."""
    if _close is not None:
        _close()


def enabled() -> bool:
    """Whether spans go anywhere."""
    return _sink is not None


def emit(span: Span) -> None:
    """Hand it over; never waits."""
    if _sink is not None:
        _sink(span)


def new_id() -> int:
    """Of a span that happens once."""
    return secrets.randbits(64) or 1


def moment(rfc3339: str) -> int:
    """A status's time as a span has it."""
    return int(datetime.fromisoformat(rfc3339).timestamp()) * _SECOND


class Pass:
    """One reconcile as it goes; it is worth a span only if something is done in it."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self._id = new_id()
        self._steps: list[Span] = []
        self._attributes: dict[str, str | bool] = {}
        self._whole = int(time.time()) * _SECOND
        self._began = time.perf_counter_ns()

    def now(self) -> int:
        """The time, from a whole second on."""
        return self._whole + time.perf_counter_ns() - self._began

    def step(self, name: str, begun: int, attributes: Mapping[str, str], error: str) -> None:
        """Something was done, or tried."""
        told = _prefixed(attributes)
        parts = Span(self.trace, new_id(), self._id, name, begun, self.now(), told, error)
        self._steps.append(parts)

    def tell(self, **attributes: str) -> None:
        """What came of the pass."""
        self._attributes.update(_prefixed(attributes))

    def end(self, error: str) -> None:
        """Hand over what there is to tell."""
        if not (self._steps or self._attributes or error):
            return
        emit(
            Span(
                self.trace,
                self._id,
                self.trace.root,
                f"reconcile {self.trace.kind}",
                self._whole,
                self.now(),
                self._attributes,
                error,
            )
        )
        for each in self._steps:
            emit(each)


_current: ContextVar[Pass | None] = ContextVar("pass", default=None)


def current() -> Pass | None:
    """The reconcile under way in this thread, if it is traced."""
    return _current.get()


@contextmanager
def reconcile(trace: Trace) -> Iterator[None]:
    """A pass; an exception is told by its class."""
    if not enabled():
        yield
        return
    under_way, error = Pass(trace), ""
    token = _current.set(under_way)
    try:
        yield
    except Exception as exception:
        error = type(exception).__name__
        raise
    finally:
        _current.reset(token)
        under_way.end(error)


def stage(
    trace: Trace, name: str, begun: int, ended: int, reason: str, attributes: Mapping[str, str]
) -> None:
    """An attempt of a stage that ended; `reason` is why it failed, if it did."""
    told = {"stage": name, **attributes}
    identity = trace.span_id("stage", *told.values(), str(ended))
    emit(
        Span(
            trace,
            identity,
            trace.root,
            f"stage {name}",
            begun,
            max(begun, ended),
            _prefixed(told),
            reason,
        )
    )


def root(
    trace: Trace, begun: int, ended: int, standing: str, reason: str, links: tuple[Trace, ...]
) -> None:
    """The resource is Ready, or Stalled for a `reason`; `links` are those that it was made from."""
    told = _prefixed({"standing": standing, "reason": reason})
    error = "" if standing == "Ready" else reason
    span = Span(trace, trace.root, None, trace.kind, begun, max(begun, ended), told, error, links)
    emit(span)


def review(trace: Trace, begun: int, outcome: str, attributes: Mapping[str, str]) -> None:
    """Admission's decision. What is refused has no resource, so that its span is all there is."""
    allowed = outcome == "allowed"
    emit(
        Span(
            trace,
            new_id(),
            trace.root if allowed else None,
            f"review {trace.kind}",
            begun,
            time.time_ns(),
            _prefixed({"outcome": outcome, **attributes}),
            "" if allowed else attributes.get("reason", outcome),
        )
    )


def _prefixed(attributes: Mapping[str, str]) -> dict[str, str | bool]:
    return {f"palimpsest.{name}": value for name, value in attributes.items() if value}
