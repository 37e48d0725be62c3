"""What the running operator shows Prometheus: every family, and an object's while it is there.

Other tests' resources may be in the same cluster: counters are at least what happened here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction

from integration.reconcile.harness import Json, World, task_of
from integration.reconcile.test_pipeline import PIPELINE
from palimpsest.api.outcomes import Outcome
from palimpsest.telemetry.reference import declared

PROGRESS = "palimpsest_stage_progress_ratio"
FIGURE = "palimpsest_alignment_figure"
HELD = "palimpsest_privacybudget_oldest_reservation_timestamp_seconds"
# Not there at the end: nothing runs, nothing is held, and nobody keeps certificates here.
ABSENT = (PROGRESS, FIGURE, HELD, "palimpsest_admission_certificate_expiry_timestamp_seconds")


def value(world: World, metric: str, /, **labels: str) -> float:
    """The sum of the series of a name with these labels."""
    return sum(
        sample.value
        for sample in world.samples()
        if sample.name == metric and labels.items() <= sample.labels.items()
    )


def reaches(world: World, wanted: float, metric: str, /, **labels: str) -> Callable[[], bool]:
    return lambda: value(world, metric, **labels) >= wanted


def fail_before_the_start(world: World) -> None:
    """A training that ends before it reads a record, and its generator's deletion."""
    world.apply(world.private_generator("unsuitable"))
    world.end_pods(world.job(world.custody, "train"), Outcome.MODEL_UNSUITABLE)
    why = {"stage": "train", "reason": "ModelUnsuitable"}
    world.until("it is told", reaches(world, 1, "palimpsest_stage_failures_total", **why))
    released = {"outcome": "released"}
    world.until("given back", reaches(world, 1, "palimpsest_charges_total", **released))
    world.plane.kubectl("delete", "pgen", "unsuitable", "-n", world.tenant, "--timeout=40s")


def train(world: World) -> Json:
    """A training that is seen to begin, and some steps later."""
    world.apply(world.private_generator())
    job = world.job(world.custody, "train")
    world.run_pods(job)
    mine = {"namespace": world.tenant, "name": "questions", "stage": "train"}
    world.until(
        "it runs",
        lambda: any(
            sample.name == PROGRESS and mine.items() <= sample.labels.items()
            for sample in world.samples()
        ),
    )
    world.spend(job, 1, 2)
    steps = f"16/{task_of(job).parameters.model_dump()['steps']}"
    ratio = float(Fraction(steps))
    world.until(f"{steps} is done", lambda: value(world, PROGRESS, **mine) == ratio)
    assert value(world, HELD, privacybudget=world.budget) > 0
    return job


def align(world: World) -> None:
    """A run on a data set that is made, until it tells of a step."""
    world.apply(world.alignment_run())
    job = world.job(world.tenant, "sft")
    world.run_pods(job)
    told = {"done": 3, "total": 12, "unit": "steps", "figures": {"loss": 0.5}}
    place = f"{task_of(job).output.uri}progress.json"
    world.store("tenant").put(place, json.dumps(told).encode())
    mine = {"namespace": world.tenant, "name": "assistant", "stage": "sft", "figure": "loss"}
    world.until("its loss is told", lambda: value(world, FIGURE, **mine) == 0.5)


def finish(world: World, job: Json) -> None:
    """The training's release."""
    world.spend(job, 1, 1, done=2)
    world.publish(job, PIPELINE[0][1])
    world.end_pods(job, Outcome.COMPLETED)


def test_every_family_is_there_and_ends_with_its_object(world: World) -> None:
    world.apply(world.privacy_budget())
    fail_before_the_start(world)
    finish(world, train(world))
    world.apply(world.synthetic_dataset())
    for stage, files, blocks in PIPELINE[1:-1]:
        world.succeed(stage, files, blocks)
    align(world)
    world.succeed(*PIPELINE[-1])
    world.until("the run is Ready", lambda: world.summary("align", "assistant") == "Ready")

    took = "palimpsest_stage_duration_seconds_count"
    for stage, _, _ in PIPELINE:
        succeeded = {"stage": stage, "outcome": "Succeeded"}
        world.until(f"{stage} is timed", reaches(world, 1, took, **succeeded))
        attempts = 2 if stage == "train" else 1
        assert value(world, "palimpsest_stage_attempts_total", stage=stage) >= attempts
    # A minute, whatever it was: no more is said of a private stage.
    assert value(world, "palimpsest_stage_duration_seconds_sum", stage="histogram") % 60 == 0
    assert value(world, "palimpsest_charge_commits_total", basis="completed") >= 2
    assert value(world, "palimpsest_charges_total", outcome="started") >= 2
    spending(world)
    standing = "palimpsest_resource_standing"
    assert value(world, standing, namespace=world.tenant) == 3
    assert value(world, standing, namespace=world.tenant, standing="Ready") == 3
    assert value(world, standing, name=world.budget, standing="Ready") == 1
    assert value(world, "palimpsest_leader_election_master_status") == 1
    shown = {sample.name for sample in world.samples()}
    for metric in declared():
        if "operator" in metric.by and metric.name not in ABSENT:
            name = f"{metric.name}_bucket" if metric.type == "histogram" else metric.name
            assert name in shown, metric.name
    leave(world)


def spending(world: World) -> None:
    """What the budget's gauges say at the end."""
    mine = {"privacybudget": world.budget}
    world.until("nothing is held", lambda: value(world, HELD, **mine) == 0)
    assert round(value(world, "palimpsest_privacybudget_share", **mine), 6) == 1
    epsilon = "palimpsest_privacybudget_epsilon"
    assert round(value(world, epsilon, **mine), 6) == 3.4
    assert 3 < value(world, epsilon, **mine, state="committed") < 3.4
    charges = "palimpsest_privacybudget_charges"
    assert value(world, charges, **mine, state="committed") == 2
    assert value(world, charges, **mine, state="released") == 1


def leave(world: World) -> None:
    """Delete all; no series names any of it then."""
    for kind, name in (("align", "assistant"), ("synds", "questions"), ("pgen", "questions")):
        world.plane.kubectl("delete", kind, name, "-n", world.tenant, "--timeout=40s")
    world.plane.kubectl("delete", "pb", world.budget, "--timeout=40s")
    # The names alone may be those of other tests' resources.
    marks = {world.tenant, world.budget}
    world.until(
        "no series names an object",
        lambda: not [one for one in world.samples() if marks & {*one.labels.values()}],
    )


def test_whoever_labels_a_pod_makes_no_series(world: World) -> None:
    marks = {"palimpsest.dev/kind": "Invented", "palimpsest.dev/name": "x"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stranger", "namespace": world.tenant, "labels": marks},
        "spec": {"containers": [{"name": "c", "image": "none"}]},
    }
    world.apply(pod)
    world.apply(world.privacy_budget())
    world.apply(world.private_generator())
    world.job(world.custody, "train")
    assert [each for each in world.samples() if "Invented" in each.labels.values()] == []
    assert "Invented" not in (world.folder / "operator.log").read_text()
