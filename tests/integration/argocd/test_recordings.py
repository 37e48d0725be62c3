"""The test data of the health checks is what the operator writes, in every standing."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import yaml
from argocd.configmap import CUSTOMIZATIONS
from integration.reconcile.harness import DIGEST, Json, World
from integration.reconcile.kube import jobs_in, named
from palimpsest.api.outcomes import Outcome

SEEN = Path(__file__).parents[3] / "build" / "argocd"
# What differs from run to run, and what it is in the recordings.
VARYING = (
    (r"http://127\.0\.0\.1:\d+", "https://store.example.com"),
    (r"\b[0-9a-f]{64}\b", "a" * 64),
    (r"\b[0-9a-f]{16}\b", "b" * 16),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", "2026-01-01T00:00:00Z"),
)
QUIET_SECONDS = 5.0


class Recorder:
    """Resources as `kubectl get -o yaml` shows them, less what only this run has."""

    def __init__(self, world: World) -> None:
        self.world = world

    def record(self, name: str, kind: str, resource: str, reason: str = "") -> None:
        """Keep one under a name: once it is as it is kept, else once nobody writes it any more."""
        world = self.world

        if reason:
            world.until(
                f"{kind}/{resource}: {reason}", lambda: world.summary(kind, resource) == reason
            )
        found = world.get(kind, resource, world.tenant)
        path = Path(found["kind"], "testdata", f"{name}.yaml")
        kept = CUSTOMIZATIONS / path
        expected = kept.read_text() if kept.exists() else ""
        since = time.monotonic()
        while (seen := _yaml(self._plain(found))) != expected:
            if time.monotonic() - since > QUIET_SECONDS:
                break
            time.sleep(0.1)
            again = world.get(kind, resource, world.tenant)
            if again["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
                found, since = again, time.monotonic()
        (SEEN / path).parent.mkdir(parents=True, exist_ok=True)
        (SEEN / path).write_text(seen)

    def _plain(self, resource: Json) -> Json:
        kept = ("name", "namespace", "generation", "finalizers")
        meta = {key: value for key, value in resource["metadata"].items() if key in kept}
        text = json.dumps({**resource, "metadata": meta}).replace(self.world.mark, "demo")
        for pattern, told in VARYING:
            text = re.sub(pattern, told, text)
        plain: Json = json.loads(text)
        return plain


def test_the_test_data_is_what_the_operator_writes(world: World) -> None:
    shutil.rmtree(SEEN, ignore_errors=True)
    recorder = Recorder(world)
    budget, generator, dataset, run = world.manifests()
    del dataset["spec"]["resampling"]
    dataset["spec"]["annotation"] = {"human": {}}
    for manifest in (budget, generator, dataset, run):
        world.apply(manifest)
        recorder.record("unseen", manifest["kind"], manifest["metadata"]["name"])
    world.start()
    private(recorder, budget)
    data(recorder, dataset)
    alignment(recorder)
    recorder.record("ready", "privacybudget", world.budget, "Ready")
    world.kill()
    world.apply(changed(budget, reservationTimeout="2h"))
    for manifest in (generator, dataset, run):
        path = named(manifest["kind"], manifest["metadata"]["name"], world.tenant)
        world.kube.patch(path, {"spec": {"suspend": True}})
    for manifest in (budget, generator, dataset, run):
        recorder.record("changed", manifest["kind"], manifest["metadata"]["name"])

    for kind in (manifest["kind"] for manifest in (budget, generator, dataset, run)):
        kept, seen = CUSTOMIZATIONS / kind / "testdata", SEEN / kind / "testdata"
        assert texts(seen) == texts(kept), f"if that is meant, copy {seen} over {kept}"


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def private(recorder: Recorder, budget: Json) -> None:
    """What custodians and trainers see."""
    world = recorder.world
    world.until("it is open", lambda: world.summary("privacybudget", world.budget) == "Ready")
    wrong = changed(budget, dataset={**budget["spec"]["dataset"], "records": 15001})
    wrong["metadata"]["name"] = f"wrong-{world.mark}"
    world.apply(wrong)
    recorder.record("journal-mismatch", "privacybudget", f"wrong-{world.mark}", "JournalMismatch")
    recorder.record("generator-not-ready", "synds", "questions", "GeneratorNotReady")
    recorder.record("dataset-not-ready", "align", "assistant", "DatasetNotReady")
    held = world.private_generator("held")
    world.apply(changed(held, suspend=True))
    recorder.record("suspended", "pgen", "held", "Suspended")
    world.run_pods(world.job(world.custody, "train"))
    recorder.record("running", "pgen", "questions", "Running")
    world.succeed("train", {"adapter_model.safetensors": b"adapter"}, 3)
    recorder.record("ready", "pgen", "questions", "Ready")
    world.apply(changed(held, suspend=False))
    recorder.record("budget-exceeded", "pgen", "held", "BudgetExceeded")


def data(recorder: Recorder, dataset: Json) -> None:
    """What people who make data see: people answer, and a stage fails."""
    world = recorder.world
    end(world, "sample", "questions", "instructions.jsonl")
    recorder.record("waiting-for-answers", "synds", "questions", "WaitingForAnswers")
    broken = changed(dataset)
    broken["metadata"]["name"] = "broken"
    world.apply(broken)
    end(world, "sample", "broken", outcome=Outcome.INTERNAL_ERROR)
    recorder.record("internal-error", "synds", "broken", "InternalError")
    answers = {"uri": f"s3://outputs/{world.mark}/answers.jsonl", "digest": DIGEST}
    world.apply(changed(dataset, annotation={"human": {"answers": answers}}))
    end(world, "annotate", "questions", "annotated.jsonl")
    end(world, "card", "questions", "data.jsonl")
    recorder.record("ready", "synds", "questions", "Ready")


def alignment(recorder: Recorder) -> None:
    """What people who align see."""
    world = recorder.world
    held = world.alignment_run("held")
    world.apply(changed(held, suspend=True))
    recorder.record("suspended", "align", "held", "Suspended")
    end(world, "sft", "assistant", "model.safetensors")
    recorder.record("ready", "align", "assistant", "Ready")
    world.apply(changed(held, suspend=False))
    end(world, "sft", "held", outcome=Outcome.MODEL_UNSUITABLE)
    recorder.record("model-unsuitable", "align", "held", "ModelUnsuitable")


class _Dumper(yaml.SafeDumper):
    """What other parsers of YAML take for a number is quoted: 1e-5."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"), list("-+0123456789")
)


def _yaml(document: Json) -> str:
    return yaml.dump(document, Dumper=_Dumper, width=100)


def changed(manifest: Json, **spec: Any) -> Json:
    """A copy with other fields."""
    return {
        **manifest,
        "metadata": dict(manifest["metadata"]),
        "spec": {**manifest["spec"], **spec},
    }


def end(
    world: World, stage: str, owner: str, file: str = "", outcome: Outcome = Outcome.COMPLETED
) -> None:
    """A stage of one of several resources, to its end."""
    job = world.until(f"a Job of {owner}", lambda: job_of(world, stage, owner))
    world.run_pods(job)
    if file:
        world.publish(job, {file: b"{}"})
    world.end_pods(job, outcome)


def job_of(world: World, stage: str, owner: str) -> Json | None:
    """A stage's Job of one resource outside custody, once it has all its pods."""
    wanted = f"palimpsest.dev/stage={stage},palimpsest.dev/name={owner}"
    for job in world.kube.items(jobs_in(world.tenant), wanted):
        if len(world.pods(job)) >= job["spec"]["parallelism"]:
            return job
    return None
