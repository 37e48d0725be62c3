"""One trace from apply to artifact, as a collector gets it from the installed processes."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cluster.fixtures import ControlPlane, ObjectStore
from collector import Collector, Received, collecting
from integration.admission.ground import Authority, eventually, running, webhook
from integration.reconcile.harness import World
from integration.reconcile.test_metrics import value
from palimpsest.api.outcomes import Outcome
from palimpsest.telemetry.traces import ENDPOINT_VARIABLE, Trace
from unit.docs.test_logs import listed

SECOND = 10**9
RELEASE = {"adapter_model.safetensors": b"adapter"}
STEPS = ("reserve", "create job", "commit", "sign receipt")
WHOLE = ("PrivateGenerator", "reconcile PrivateGenerator", "stage train")


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


@pytest.fixture
def world(
    control_plane: ControlPlane,
    object_store: ObjectStore,
    collector: Collector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    """The usual world, and admission; both send their spans to the collector."""
    monkeypatch.setenv(ENDPOINT_VARIABLE, collector.endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20key")
    made = World(control_plane, object_store, tmp_path)
    made.prepare()
    made.start()
    authority = Authority()
    authority.issue(tmp_path / "certificates")
    with ExitStack() as around:
        around.callback(made.kill)
        server = around.enter_context(running(control_plane.kubeconfig, tmp_path / "certificates"))
        eventually(lambda: server.probe("/readyz")[0] == 200, 10, "admission is ready")
        hook = json.dumps(webhook(server.port, authority.bundle))
        control_plane.kubectl("apply", "-f", "-", stdin=hook)
        around.callback(control_plane.kubectl, "delete", "-f", "-", stdin=hook)
        yield made


def trace_of(world: World, kind: str, name: str, generation: int = 1) -> Trace:
    namespace = "" if kind == "PrivacyBudget" else world.tenant
    found = world.get(kind, name, namespace)
    return Trace(kind, namespace, name, found["metadata"]["uid"], generation)


def reviewed(world: World, collector: Collector) -> None:
    """Apply the budget until the API server asks the webhook."""
    world.apply(world.privacy_budget())
    tried = world.privacy_budget("3.5")
    tried["metadata"]["name"] += "-tried"
    text = json.dumps(tried)

    def asked() -> bool:
        world.plane.kubectl("create", "-f", "-", "--dry-run=server", stdin=text)
        world.plane.kubectl("create", "-f", "-", stdin=text)
        seen = bool(collector.named("review PrivacyBudget"))
        word = "palimpsest.dev/confirm-delete=true"
        world.plane.kubectl("annotate", "pb", tried["metadata"]["name"], word)
        world.plane.kubectl("delete", "pb", tried["metadata"]["name"], "--timeout=40s")
        return seen

    world.until("the webhook is asked", asked)


def test_one_trace_from_apply_to_artifact_outlives_the_operator(
    world: World, collector: Collector
) -> None:
    reviewed(world, collector)
    world.apply(world.private_generator())
    job = world.job(world.custody, "train")
    mine = trace_of(world, "PrivateGenerator", "questions")
    world.until("its Job is told of", lambda: collector.named("create job", name="questions"))
    assert collector.named(mine.kind) == [], "its root ends with it"
    world.kill()
    world.start()
    world.spend(job, 1, 3)
    world.publish(job, RELEASE)
    world.end_pods(job, Outcome.COMPLETED)
    world.until("Ready", lambda: world.summary("pgen", "questions") == "Ready")
    world.until("its root is told of", lambda: collector.named(mine.kind, name="questions"))
    world.kill(signal.SIGTERM)

    spans = collector.trace(mine.hex)
    everything = [span for span in collector.spans if mine.uid in span.attributes.values()]
    assert spans == everything, "no span of it is in another trace"
    told = {span.name for span in spans}
    assert told >= {*WHOLE, *STEPS, "review PrivateGenerator"}
    services = {span.name: span.service for span in spans}
    assert services.pop("review PrivateGenerator") == "palimpsest-admission"
    assert set(services.values()) == {"palimpsest-operator"}
    hang_together(spans, mine)
    the_log_says_the_same(world, spans)
    about_the_charge(world, spans)
    no_finer_than_the_status(world, spans)
    (root,) = collector.named(mine.kind)
    assert root.links == (trace_of(world, "PrivacyBudget", world.budget).hex,)
    assert {each["authorization"] for each in collector.headers} == {"Bearer key"}


def hang_together(spans: list[Received], mine: Trace) -> None:
    """One root, and everything under it."""
    known = {span.id: span for span in spans}
    assert len(known) == len(spans)
    (root,) = [span for span in spans if not span.parent]
    assert (root.name, root.id) == (mine.kind, f"{mine.root:016x}")
    for span in spans:
        if span is not root:
            parent = known[span.parent]
            inside = span.name in STEPS
            assert parent.name == ("reconcile PrivateGenerator" if inside else mine.kind)
        assert span.begun <= span.ended
        assert not span.error


def the_log_says_the_same(world: World, spans: list[Received]) -> None:
    """Every line is JSON of the fields that are documented; what is done is a line and a span."""
    lines = [json.loads(line) for line in (world.folder / "operator.log").read_text().splitlines()]
    known = listed()
    assert [field for line in lines for field in line if field not in known] == []
    (uid,) = {span.attributes["palimpsest.uid"] for span in spans}
    mine = [line for line in lines if line.get("uid") == uid]
    about = {
        "kind": "PrivateGenerator",
        "namespace": world.tenant,
        "name": "questions",
        "trace_id": spans[0].trace,
    }
    for line in mine:
        assert about.items() <= line.items()
    for span in spans:
        if span.name in STEPS:
            (line,) = [each for each in mine if each["message"] == span.name]
            for field in ("stage", "charge", "job"):
                assert line.get(field) == span.attributes.get(f"palimpsest.{field}")
    (ended,) = [line for line in mine if line["message"] == "stage ended"]
    assert (ended["stage"], ended["outcome"]) == ("train", "Completed")
    assert [line["reason"] for line in mine if line["message"] == "standing"][-1] == "Ready"


def about_the_charge(world: World, spans: list[Received]) -> None:
    (charge,) = world.journal().refresh().charges
    for name in ("reserve", "commit", "sign receipt", "stage train"):
        (span,) = [each for each in spans if each.name == name]
        assert span.attributes["palimpsest.charge"] == charge
        assert span.attributes["palimpsest.stage"] == "train"


def no_finer_than_the_status(world: World, spans: list[Received]) -> None:
    for span in spans:
        if span.name in WHOLE:
            assert span.begun % SECOND == 0, span
    (stage,) = [each for each in spans if each.name == "stage train"]
    (shown,) = world.get("pgen", "questions", world.tenant)["status"]["stages"]
    seconds = [time.gmtime(each // SECOND) for each in (stage.begun, stage.ended)]
    assert [time.strftime("%Y-%m-%dT%H:%M:%SZ", each) for each in seconds] == [
        shown["startTime"],
        shown["completionTime"],
    ]
    assert stage.ended % SECOND == 0


def test_a_refusal_a_failure_and_a_changed_spec(world: World, collector: Collector) -> None:
    reviewed(world, collector)
    stranger = world.private_generator("stranger")
    stranger["spec"]["baseModel"]["uri"] = "s3://models/other/"
    text = json.dumps(stranger)
    world.plane.kubectl("create", "-f", "-", "--dry-run=server", stdin=text, check=False)
    world.plane.kubectl("create", "-f", "-", stdin=text, check=False)
    refused = {"name": "stranger", "outcome": "denied", "reason": "ModelNotAllowed"}
    review = "review PrivateGenerator"
    world.until("the refusal is told of", lambda: collector.named(review, **refused))
    # What is tried out makes none, and a refusal hangs under nothing: there is no resource.
    (denied,) = collector.named(review, **refused)
    assert (denied.parent, denied.error) == ("", "ModelNotAllowed")
    assert collector.trace(denied.trace) == [denied]

    world.apply(world.private_generator("unsuitable"))
    world.end_pods(world.job(world.custody, "train"), Outcome.MODEL_UNSUITABLE)
    first = trace_of(world, "PrivateGenerator", "unsuitable")
    world.until("its root", lambda: collector.named(first.kind, name="unsuitable"))
    (root,) = collector.named(first.kind, name="unsuitable")
    assert (root.trace, root.error) == (first.hex, "ModelUnsuitable")
    (stage,) = collector.named("stage train", name="unsuitable")
    assert stage.error == "ModelUnsuitable"
    world.until("given back", lambda: collector.named("release", name="unsuitable"))

    moved = world.private_generator("unsuitable")
    moved["spec"]["suspend"] = True
    world.apply(moved)
    second = trace_of(world, "PrivateGenerator", "unsuitable", generation=2)
    roots = {f"{each.root:016x}" for each in (first, second)}
    world.until(
        "both reviews",
        lambda: roots == {span.parent for span in collector.named(review, name="unsuitable")},
    )
    assert second.hex != first.hex


@pytest.fixture
def silent(
    control_plane: ControlPlane, object_store: ObjectStore, tmp_path: Path
) -> Iterator[World]:
    """A world whose collector takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as hole:
        made = World(control_plane, object_store, tmp_path)
        port = hole.getsockname()[1]
        made.environment[ENDPOINT_VARIABLE] = f"http://127.0.0.1:{port}"
        made.prepare()
        made.start()
        try:
            yield made
        finally:
            made.kill()


def test_a_collector_that_never_answers_costs_nothing(silent: World) -> None:
    silent.apply(silent.privacy_budget())
    silent.apply(silent.private_generator())
    silent.succeed("train", RELEASE, 2)
    silent.until("Ready", lambda: silent.summary("pgen", "questions") == "Ready")
    spans = "palimpsest_trace_spans_total"
    silent.until("it is told", lambda: value(silent, spans, outcome="failed") > 0)
    assert value(silent, spans, outcome="exported") == 0
    assert value(silent, "palimpsest_controller_reconcile_errors_total") == 0
    began = time.monotonic()
    silent.kill(signal.SIGTERM)
    assert time.monotonic() - began < 8
