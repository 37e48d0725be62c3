"""Spans to an OpenTelemetry collector by OTLP over HTTP, from a thread of its own.

Address, headers and authority are read from OpenTelemetry's own variables. A collector that does
not answer costs nobody anything: what waits for it is bounded, and dropped beyond that.
"""

import logging
import threading
from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from palimpsest import __version__

from .catalogue import Process
from .traces import SPANS, Span, Trace

log = logging.getLogger(__name__)

MOST_WAITING = 2048
TIMEOUT_SECONDS = 5.0
DELAY_MILLISECONDS = 1000
# A pod that is told to go does not wait long for a collector.
CLOSING_SECONDS = 2.0


class Exporting:
    """The way out of a process."""

    def __init__(self, process: Process, ratio: float) -> None:
        # What it says of each failure is said once here.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._ids = _Told()
        self._counting = _Counting(OTLPSpanExporter(timeout=TIMEOUT_SECONDS))
        self._provider = TracerProvider(
            sampler=TraceIdRatioBased(ratio),
            id_generator=self._ids,
            resource=Resource.create(
                {"service.name": f"palimpsest-{process}", "service.version": __version__}
            ),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self._counting,
                # The bound that counts is ours.
                max_queue_size=2 * MOST_WAITING,
                schedule_delay_millis=DELAY_MILLISECONDS,
            )
        )
        self._tracer = self._provider.get_tracer("palimpsest", __version__)
        self._turn = threading.Lock()

    def emit(self, span: Span) -> None:
        """Let it wait for its batch, or drop it."""
        if self._counting.waiting >= MOST_WAITING:
            SPANS.labels("dropped").inc()
            return
        with self._turn:
            self._ids.next = span.trace.id, span.id
            made = self._tracer.start_span(
                span.name,
                context=_under(span),
                attributes={**_about(span.trace), **span.attributes},
                links=[Link(_context(each, each.root)) for each in span.links],
                start_time=span.begun,
            )
        if not made.is_recording():
            return
        if span.error:
            made.set_status(StatusCode.ERROR, span.error)
        self._counting.take()
        made.end(span.ended)

    def close(self) -> None:
        """Send what waits, within CLOSING_SECONDS."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSING_SECONDS)


class _Told(IdGenerator):
    """Ids that are told before each span is made."""

    next = 0, 0

    def generate_trace_id(self) -> int:
        return self.next[0]

    def generate_span_id(self) -> int:
        return self.next[1]


class _Counting(SpanExporter):
    """Counts what waits and what became of it; tells once when that changes."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._turn = threading.Lock()
        self._failing = False
        self.waiting = 0

    def take(self) -> None:
        """One more waits."""
        with self._turn:
            self.waiting += 1

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            with self._turn:
                self.waiting -= len(spans)
            failed = result is not SpanExportResult.SUCCESS
            SPANS.labels("failed" if failed else "exported").inc(len(spans))
            if failed and not self._failing:
                log.warning("the collector takes no spans")
            elif self._failing and not failed:
                log.info("the collector takes spans again")
            self._failing = failed
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def _under(span: Span) -> Context:
    if span.parent is None:
        return Context()
    return set_span_in_context(NonRecordingSpan(_context(span.trace, span.parent)), Context())


def _context(trace: Trace, span: int) -> SpanContext:
    return SpanContext(trace.id, span, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _about(trace: Trace) -> dict[str, str | int]:
    told = {"kind": trace.kind, "namespace": trace.namespace, "name": trace.name, "uid": trace.uid}
    return {
        **{f"palimpsest.{name}": value for name, value in told.items() if value},
        "palimpsest.generation": trace.generation,
    }
