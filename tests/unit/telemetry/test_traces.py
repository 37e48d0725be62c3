"""Spans: the same trace for whoever tells of it, nothing loaded without a place to send them to."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cluster.pki import Authority
from collector import Collector, collecting
from palimpsest.reconcile.adapter.tracing import Roots, asked_at, stage_ended
from palimpsest.reconcile.measures import Ended
from palimpsest.telemetry import acts, otlp, traces
from palimpsest.telemetry.otlp import MOST_WAITING, Exporting
from palimpsest.telemetry.resources import Object
from palimpsest.telemetry.traces import ENDPOINT_VARIABLE, SPANS, Span, Trace

Json = dict[str, Any]

# OpenTelemetry's own, as the chart sets it.
AUTHORITY_VARIABLE = "OTEL_EXPORTER_OTLP_CERTIFICATE"
MINE = Trace("PrivateGenerator", "n", "g", "0f0e", 1)
BEGUN, OVER = "2026-01-01T12:00:00Z", "2026-01-01T12:01:30Z"
SECOND = 10**9
NOON = 1767268800 * SECOND


def span(trace: Trace = MINE, number: int = 1) -> Span:
    return Span(trace, number, trace.root, "something", NOON, NOON + 1)


def count(outcome: str) -> float:
    return sum(
        each.value
        for family in SPANS.collect()
        for each in family.samples
        if each.name.endswith("_total") and each.labels == {"outcome": outcome}
    )


@contextmanager
def to(monkeypatch: pytest.MonkeyPatch, endpoint: str, ratio: float = 1) -> Iterator[Exporting]:
    """The way to an endpoint; what the block leaves waiting is sent at its end."""
    monkeypatch.setenv(ENDPOINT_VARIABLE, endpoint)
    made = Exporting("operator", ratio)
    monkeypatch.setattr(traces, "_sink", made.emit)
    yield made
    made.close()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as made:
        yield made


def test_nothing_of_opentelemetry_is_loaded_without_an_endpoint() -> None:
    program = (
        "import sys, palimpsest.main, palimpsest.admission.server, palimpsest.cli.main\n"
        "from palimpsest.telemetry import acts, traces\n"
        "traces.configure('operator')\n"
        "with traces.reconcile(traces.Trace('k', 'n', 'g', 'u', 1)), acts.act('reserve'): pass\n"
        "print([each for each in sys.modules if each.startswith('opentelemetry')])"
    )
    for endpoint, loaded in (("", False), ("http://127.0.0.1:1", True)):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, ENDPOINT_VARIABLE: endpoint},
            capture_output=True,
            text=True,
            check=True,
        )
        assert (done.stdout.strip() != "[]") == loaded, done.stdout


def test_a_trace_is_that_of_a_generation_whoever_tells_of_it() -> None:
    again = Trace("PrivateGenerator", "n", "g", "0f0e", 1)
    assert (again.id, again.root) == (MINE.id, MINE.root)
    others = [Trace("PrivateGenerator", "n", "g", *of) for of in (("0f0e", 2), ("0f0f", 1))]
    assert len({each.id for each in (MINE, *others)}) == 3
    assert len({each.root for each in (MINE, *others)}) == 3
    assert 0 < MINE.id < 2**128
    assert 0 < MINE.root < 2**64
    assert len(MINE.hex) == 32


def test_a_part_of_all_traces_is_kept_each_whole(
    monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> None:
    many = [Trace("PrivateGenerator", "n", "g", str(number), 1) for number in range(100)]
    with to(monkeypatch, collector.endpoint, 0.5) as way:
        for trace in many:
            way.emit(Span(trace, trace.root, None, "root", NOON, NOON))
            way.emit(span(trace))
    kept = {each.trace for each in collector.spans}
    assert 20 < len(kept) < 80
    assert len(collector.spans) == 2 * len(kept)
    with to(monkeypatch, collector.endpoint, 0) as way:
        way.emit(span())
    assert len(collector.spans) == 2 * len(kept)


def test_a_collector_is_who_its_authority_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    served = authority.sign("collector", names=("127.0.0.1",))
    # Of the machine, not of a pod; requests prefers them.
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    with collecting((served.certificate, served.key)) as collector:
        before = count("failed")
        with monkeypatch.context() as impatient:
            impatient.setattr(otlp, "TIMEOUT_SECONDS", 0.1)
            with to(impatient, collector.endpoint) as way:
                way.emit(span())
        assert count("failed") == before + 1
        assert not collector.spans
        monkeypatch.setenv(AUTHORITY_VARIABLE, str(authority.identity.certificate))
        with to(monkeypatch, collector.endpoint) as way:
            way.emit(span())
        assert len(collector.spans) == 1


@pytest.mark.parametrize("ratio", ["2", "-1", "half"])
def test_a_bad_ratio_is_told(monkeypatch: pytest.MonkeyPatch, ratio: str) -> None:
    monkeypatch.setenv(ENDPOINT_VARIABLE, "http://127.0.0.1:1")
    monkeypatch.setenv(traces.RATIO_VARIABLE, ratio)
    with pytest.raises(ValueError):  # noqa: PT011 - float's own words, or OpenTelemetry's
        traces.configure("operator")


def test_what_waits_is_bounded_and_nobody_waits_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "CLOSING_SECONDS", 0.2)
    before = count("dropped")
    with socket.create_server(("127.0.0.1", 0)) as hole:
        with to(monkeypatch, f"http://127.0.0.1:{hole.getsockname()[1]}") as way:
            began = time.perf_counter()
            for number in range(MOST_WAITING + 500):
                way.emit(span(number=number + 1))
            took = time.perf_counter() - began
            began = time.perf_counter()
        closed = time.perf_counter() - began
    # A request alone would take TIMEOUT_SECONDS, five.
    assert took < 3
    assert closed < 2
    assert count("dropped") == before + 500


def test_a_collector_that_refuses_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = count("failed")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setattr(otlp, "TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(otlp, "DELAY_MILLISECONDS", 50)
    with to(monkeypatch, f"http://127.0.0.1:{port}") as way:
        for number in (1, 2):
            way.emit(span(number=number))
            deadline = time.monotonic() + 10
            while count("failed") < before + number and time.monotonic() < deadline:
                time.sleep(0.01)
    assert count("failed") == before + 2
    assert [each.message for each in caplog.records] == ["the collector takes no spans"]


def test_an_idle_reconcile_has_no_span_and_a_failed_one_names_the_class(
    monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> None:
    def fail() -> None:
        with acts.act("reserve", stage="train", charge="c"):
            raise ConnectionError("a record's text")

    with to(monkeypatch, collector.endpoint):
        with traces.reconcile(MINE):
            pass
        with traces.reconcile(MINE), acts.act("create job") as made:
            made.done = False
        with pytest.raises(ConnectionError), traces.reconcile(MINE):
            fail()
    whole, step = sorted(collector.spans, key=lambda each: each.name)
    assert (whole.name, step.name) == ("reconcile PrivateGenerator", "reserve")
    assert {whole.error, step.error} == {"ConnectionError"}
    assert "record" not in str(collector.spans)
    assert step.parent == whole.id
    assert whole.parent == f"{MINE.root:016x}"
    assert whole.begun % SECOND == 0


@pytest.mark.parametrize(
    ("attempt", "seconds"),
    [
        (Ended("train", "Disrupted", 90, OVER, BEGUN, "j", "c", shown=False), 300),
        (Ended("train", "InternalError", 90, OVER, BEGUN, "j", "c"), 90),
        (Ended("sample", "Disrupted", 90, OVER, BEGUN, "j", shown=False), 90),
    ],
)
def test_of_a_private_attempt_no_more_is_told_than_status_and_metrics_do(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, attempt: Ended, seconds: int
) -> None:
    with to(monkeypatch, collector.endpoint):
        stage_ended(MINE, attempt)
    (told,) = collector.spans
    assert (told.begun, told.ended) == (NOON, NOON + seconds * SECOND)
    assert (told.name, told.error) == (f"stage {attempt.stage}", attempt.reason)


def test_an_attempt_has_the_same_span_whoever_tells_of_it(
    monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> None:
    attempt = Ended("train", "", 90, OVER, BEGUN, "j", "c")
    with to(monkeypatch, collector.endpoint):
        stage_ended(MINE, attempt)
        stage_ended(MINE, attempt)
        stage_ended(MINE, Ended("train", "", 90, OVER, BEGUN, "j-2", "c"))
    first, again, other = (each.id for each in collector.spans)
    assert first == again != other


def status(standing: str, generation: int = 1) -> Json:
    """As a resource has it."""
    held = {"type": standing, "status": "True"}
    return {"observedGeneration": generation, "conditions": [held], "summary": "Reason"}


@pytest.mark.parametrize(
    ("before", "roots"),
    [
        ({}, 1),
        (status("Reconciling"), 1),
        # Another process told of it, or it was so before there were traces.
        (status("Ready"), 0),
        (status("Stalled"), 0),
        (status("Ready", generation=0), 1),
    ],
)
def test_a_generation_ends_once(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, before: Json, roots: int
) -> None:
    thing, metadata = Object("PrivateGenerator", "n", "g"), {"creationTimestamp": BEGUN}
    known = Roots()
    with to(monkeypatch, collector.endpoint):
        for old in (before, status("Reconciling")):
            with traces.reconcile(MINE):
                current = {"metadata": metadata, "status": old}
                known.observe(thing, MINE, current, status("Ready"), ())
    assert len(collector.named("PrivateGenerator")) == roots
    assert {each.begun for each in collector.spans} <= {NOON}


def test_a_changed_spec_is_asked_for_when_it_is_written() -> None:
    later, latest = "2026-01-01T12:00:05Z", "2026-01-01T12:00:09Z"
    fields = [
        {"time": BEGUN, "fieldsV1": {"f:spec": {}}},
        {"time": later, "fieldsV1": {"f:spec": {}}},
        {"time": latest, "fieldsV1": {"f:metadata": {}}},
        {"time": latest, "fieldsV1": {"f:status": {}}, "subresource": "status"},
    ]
    metadata = {"creationTimestamp": BEGUN, "generation": 2, "managedFields": fields}
    assert asked_at(metadata) == NOON + 5 * SECOND
    assert asked_at({**metadata, "generation": 1}) == NOON
    assert asked_at({**metadata, "managedFields": []}) == NOON
