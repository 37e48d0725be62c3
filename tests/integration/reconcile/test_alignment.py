"""Methods of alignment against the real API server, store and operator."""

from __future__ import annotations

import json

from integration.reconcile.harness import DIGEST, Json, World, task_of
from palimpsest.api.outcomes import Outcome
from palimpsest.api.task import (
    ArtifactInput,
    DpoParameters,
    RewardModelParameters,
    RewardParameters,
    RlhfParameters,
    SftParameters,
)

BEFORE: tuple[tuple[str, dict[str, bytes], int], ...] = (
    ("train", {"adapter_model.safetensors": b"adapter"}, 3),
    ("sample", {"instructions.jsonl": b"{}"}, 0),
    ("annotate", {"annotated.jsonl": b"{}"}, 0),
    ("card", {"data.jsonl": b"{}"}, 0),
)


def published_dataset(world: World, answers: int = 1) -> None:
    """A data set without resampling, Ready."""
    dataset = world.synthetic_dataset()
    del dataset["spec"]["resampling"]
    dataset["spec"]["annotation"]["answers"] = answers
    for manifest in (world.privacy_budget(), world.private_generator(), dataset):
        world.apply(manifest)
    for stage, files, blocks in BEFORE:
        world.succeed(stage, files, blocks)
    world.until("Ready", lambda: world.summary("synds", "questions") == "Ready")


def run(world: World, name: str, **spec: object) -> Json:
    made = world.alignment_run(name)
    made["spec"] |= spec
    return made


def condition(world: World, name: str, kind: str) -> Json:
    found: list[Json] = world.get("align", name, world.tenant)["status"]["conditions"]
    return next(each for each in found if each["type"] == kind)


GATES = {"minWinRate": "0.5", "maxNLLIncrease": "0.1"}


def test_a_model_beyond_a_gate_is_published_and_the_run_says_by_how_much(world: World) -> None:
    published_dataset(world)
    evaluation = {
        "prompts": "s3://models/held-out.jsonl",
        "digest": DIGEST,
        "judge": {"builtIn": "OnTopic"},
        "gates": GATES,
    }
    failed = [
        {"gate": "minWinRate", "figure": "0.4125", "bound": "0.5"},
        {"gate": "maxNLLIncrease", "figure": "0.2000", "bound": "0.1"},
    ]
    for name, report, summary in (
        ("worse", {"failed": failed}, "GateFailed"),
        ("better", {"failed": []}, "Ready"),
        ("unread", {"failed": "?"}, "GatesInvalid"),
    ):
        world.apply(run(world, name, evaluation=evaluation))
        job = world.until("its Job", lambda name=name: job_of(world, name))  # type: ignore[misc]
        asked = task_of(job).parameters
        assert isinstance(asked, SftParameters)
        assert asked.evaluation is not None
        assert asked.evaluation.gates.min_win_rate == "0.5"
        world.publish(job, {"model": b"model", "gates.json": json.dumps(report).encode()})
        world.end_pods(job, Outcome.COMPLETED)
        world.until(summary, lambda n=name, s=summary: world.summary("align", n) == s)  # type: ignore[misc]
    world.apply(run(world, "ranked", method="DPO", reward={"builtIn": "Informative"}))
    lacking = "DatasetWithoutAnswers"
    world.until(lacking, lambda: world.summary("align", "ranked") == lacking)
    assert "annotation.answers 2 or more" in condition(world, "ranked", "Stalled")["message"]
    assert job_of(world, "ranked") is None
    told = condition(world, "worse", "Stalled")
    assert (told["status"], told["reason"]) == ("True", "GateFailed")
    assert "minWinRate: 0.4125 is below 0.5; maxNLLIncrease: 0.2000 is above 0.1" in told["message"]
    model = world.get("align", "worse", world.tenant)["status"]["model"]
    assert world.store("tenant").exists(model["uri"])
    assert condition(world, "worse", "Aligned")["status"] == "True"
    assert condition(world, "better", "Stalled")["status"] == "False"


def test_private_records_are_read_by_no_stage_outside_custody_whatever_comes_first(
    world: World,
) -> None:
    private = f"{world.privacy_budget()['spec']['dataset']['uri']}part-0000.jsonl"
    early = run(world, "early", evaluation={"prompts": private, "digest": DIGEST})
    world.apply(early)
    published_dataset(world)
    world.until("held", lambda: world.summary("align", "early") == "FileIsPrivate")
    assert condition(world, "early", "Stalled")["message"].startswith(
        f"spec.evaluation.prompts: {private} lies among the private data"
    )
    other = world.privacy_budget()
    other["metadata"]["name"] = f"letters-{world.mark}"
    other["spec"]["dataset"]["uri"] = f"s3://private/letters-{world.mark}/"
    world.apply(other)
    letters = f"s3://private/letters-{world.mark}/part-0000.jsonl"
    world.apply(run(world, "letters", evaluation={"prompts": letters, "digest": DIGEST}))
    world.until("held", lambda: world.summary("align", "letters") == "FileIsPrivate")
    message = condition(world, "letters", "Stalled")["message"]
    assert "lies among the private data of another PrivacyBudget" in message
    told = world.synthetic_dataset()
    told["metadata"]["name"] = "told"
    del told["spec"]["resampling"]
    told["spec"]["annotation"] = {"human": {"answers": {"uri": private, "digest": DIGEST}}}
    world.apply(told)
    sample = world.until("a Job", lambda: job_of(world, "told"))
    world.publish(sample, {"instructions.jsonl": b"{}"})
    world.end_pods(sample, Outcome.COMPLETED)
    world.until("held", lambda: world.summary("synds", "told") == "FileIsPrivate")
    assert job_of(world, "early") is None
    assert job_of(world, "letters") is None
    assert [name_of(job) for job in world.jobs(world.tenant)].count("told") == 1


def name_of(job: Json) -> str:
    """Of the resource that the Job is for."""
    name: str = job["metadata"]["labels"]["palimpsest.dev/name"]
    return name


def job_of(world: World, name: str) -> Json | None:
    found = [job for job in world.jobs(world.tenant) if name_of(job) == name]
    return found[0] if found else None


def test_each_method_has_its_stage_and_a_diverged_run_says_where(world: World) -> None:
    published_dataset(world, answers=2)
    reward = {"builtIn": "Informative"}
    world.apply(run(world, "preferred", method="DPO", reward=reward, dpo={"beta": "0.2"}))
    dpo = world.job(world.tenant, "dpo")
    asked = task_of(dpo).parameters
    assert isinstance(asked, DpoParameters)
    assert (asked.beta, asked.reward) == ("0.2", RewardParameters(built_in="Informative"))
    world.publish(dpo, {"model.safetensors": b"model"})
    world.end_pods(dpo, Outcome.COMPLETED)
    world.until("Ready", lambda: world.summary("align", "preferred") == "Ready")
    assert condition(world, "preferred", "Aligned")["status"] == "True"

    world.apply(run(world, "rewarded", method="RLHF", reward=reward, rlhf={"steps": 40}))
    rlhf = world.job(world.tenant, "rlhf")
    task = task_of(rlhf)
    assert isinstance(task.parameters, RlhfParameters)
    assert task.parameters.steps == 40
    told = {"done": 12, "total": 40, "unit": "steps"}
    world.store("tenant").put(f"{task.output.uri}progress.json", json.dumps(told).encode())
    world.end_pods(rlhf, Outcome.DIVERGED)
    world.until("Diverged", lambda: world.summary("align", "rewarded") == "Diverged")
    stalled = condition(world, "rewarded", "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "Diverged")
    assert "make another AlignmentRun, with a lower learningRate" in stalled["message"]
    assert "It came to 12/40 steps." in stalled["message"]
    assert "model" not in world.get("align", "rewarded", world.tenant)["status"]


def test_a_reward_is_trained_first_and_the_method_takes_what_it_published(world: World) -> None:
    published_dataset(world)
    pairs = {"uri": "s3://outputs/pairs.jsonl", "digest": DIGEST}

    def learning(name: str, **more: object) -> Json:
        reward = {"trained": {"preferences": pairs, "epochs": 2}}
        return run(world, name, method="RLHF", reward=reward, **more)

    world.apply(learning("learnt", suspend=True))
    world.until("Suspended", lambda: world.summary("align", "learnt") == "Suspended")
    told = world.get("align", "learnt", world.tenant)["status"]["stages"]
    assert [(each["name"], each["state"]) for each in told] == [("reward", "Waiting")]
    assert job_of(world, "learnt") is None
    world.apply(learning("learnt", suspend=False))
    reward = world.job(world.tenant, "reward")
    asked = task_of(reward)
    assert isinstance(asked.parameters, RewardModelParameters)
    assert asked.parameters.epochs == 2
    figures = {"loss": 0.5, "accuracy": 0.75, "margin": float("inf"), "kl": "much", "other": 1}
    progress = {"done": 3, "total": 12, "unit": "steps", "figures": figures}
    world.store("tenant").put(f"{asked.output.uri}progress.json", json.dumps(progress).encode())
    world.until("progress", lambda: progress_of(world, "learnt") == "reward 3/12 steps")
    (told,) = world.get("align", "learnt", world.tenant)["status"]["stages"]
    assert told["figures"] == {"loss": "0.5", "accuracy": "0.75"}
    assert condition(world, "learnt", "RewardTrained")["status"] == "False"
    world.publish(reward, {"model.safetensors": b"reward"})
    world.end_pods(reward, Outcome.COMPLETED)

    rlhf = world.job(world.tenant, "rlhf")
    task = task_of(rlhf)

    # A status is written once its Job is there.
    def taught() -> Json | None:
        status: Json = world.get("align", "learnt", world.tenant)["status"]
        return status if status["stages"][0].get("artifacts") else None

    status = world.until("what was learnt", taught)
    (manifest,) = status["stages"][0]["artifacts"]
    assert manifest["uri"] == f"{asked.output.uri}manifest.json"
    assert task.inputs["reward"] == ArtifactInput(store="outputs", **manifest)
    assert condition(world, "learnt", "RewardTrained")["status"] == "True"
    assert condition(world, "learnt", "Aligned")["status"] == "False"
    assert "model" not in status
    world.publish(rlhf, {"model.safetensors": b"model"})
    world.end_pods(rlhf, Outcome.COMPLETED)
    world.until("Ready", lambda: world.summary("align", "learnt") == "Ready")
    model = world.get("align", "learnt", world.tenant)["status"]["model"]
    assert model["uri"] == f"{task.output.uri}manifest.json"

    world.apply(learning("unlearnt"))
    failing = world.until("its Job", lambda: job_of(world, "unlearnt"))
    world.until("its pods", lambda: world.pods(failing))
    world.end_pods(failing, Outcome.DATASET_UNSUITABLE)
    unfit = Outcome.DATASET_UNSUITABLE.value
    world.until(unfit, lambda: world.summary("align", "unlearnt") == unfit)
    assert "spec.reward.trained.preferences" in condition(world, "unlearnt", "Stalled")["message"]
    told = world.get("align", "unlearnt", world.tenant)["status"]["stages"]
    assert [(each["name"], each["state"]) for each in told] == [("reward", "Failed")]


def progress_of(world: World, name: str) -> str:
    told: str = world.get("align", name, world.tenant)["status"].get("progress", "")
    return told
