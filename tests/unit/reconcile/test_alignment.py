"""What the stage of each method of alignment is told."""

from typing import Any

import pytest
import samples
from palimpsest.api.alignment import AlignmentRunSpec
from palimpsest.api.common import ArtifactRef, Compute, Location
from palimpsest.api.outcomes import Outcome
from palimpsest.api.task import (
    ArtifactInput,
    DpoParameters,
    EndpointInput,
    FileInput,
    ModelInput,
    RewardModelParameters,
    RewardParameters,
    RlhfParameters,
    Task,
)
from palimpsest.reconcile import jobs, stages, tasks
from palimpsest.reconcile.observed import Meta, Pod, Settings
from palimpsest.reconcile.policies import attempts
from pydantic import ValidationError
from unit.reconcile.failed import NOW, failed

META = Meta("AlignmentRun", "research", "assistant", "u", 1, deleting=False)
DATASET = ArtifactRef(uri="s3://outputs/questions/card-1/manifest.json", digest=samples.DIGEST)
ELSEWHERE = {**samples.STORAGE, "endpoint": "https://models.example.com"}


def told(**spec: Any) -> Task:
    parsed = AlignmentRunSpec.model_validate(samples.alignment(**spec)["spec"])
    origin = Location.model_validate({"uri": "s3://outputs/questions/", "storage": samples.STORAGE})
    return tasks.align(META, parsed, DATASET, origin, "(3, 1e-5)-DP").task


def test_full_tuning_has_no_rank() -> None:
    assert getattr(told().parameters, "lora_rank", None) == 8
    assert getattr(told(sft={"tuning": "Full"}).parameters, "lora_rank", 0) is None


def test_a_reward_model_is_an_input_from_its_own_store() -> None:
    model = {"uri": "s3://rewards/helpful/", "digest": samples.DIGEST, "chatTemplate": "{{ 1 }}"}
    task = told(method="DPO", reward={"model": {**model, "storage": ELSEWHERE}})
    assert isinstance(task.parameters, DpoParameters)
    assert task.parameters.reward == RewardParameters(chat_template="{{ 1 }}")
    assert task.inputs["reward"] == ModelInput(
        store="reward-models", uri="s3://rewards/helpful/", digest=samples.DIGEST
    )
    assert task.stores["reward-models"].endpoint == "https://models.example.com"
    assert task.output.uri.startswith("s3://outputs/assistant/dpo-")


def test_pairs_of_one_s_own_are_a_file_and_need_no_answers() -> None:
    pairs = {"uri": "s3://outputs/pairs.jsonl", "digest": samples.DIGEST}
    task = told(method="DPO", dpo={"preferences": pairs})
    assert isinstance(task.parameters, DpoParameters)
    assert task.parameters.reward is None
    given = FileInput(store="outputs", uri=pairs["uri"], digest=samples.DIGEST)
    assert task.inputs["preferences"] == given
    ranked = samples.alignment(method="DPO", reward={"builtIn": "OnTopic"})["spec"]
    assert AlignmentRunSpec.model_validate(ranked).needs_answers
    own = samples.alignment(method="DPO", dpo={"preferences": pairs})["spec"]
    assert not AlignmentRunSpec.model_validate(own).needs_answers


def test_a_judge_has_a_store_of_its_own_beside_the_reward_s() -> None:
    judge = {"uri": "s3://judges/strict/", "digest": samples.DIGEST, "storage": ELSEWHERE}
    evaluation = samples.alignment()["spec"]["evaluation"] | {
        "judge": {"model": judge},
        "gates": {"minWinRate": "0.5"},
    }
    task = told(method="RLHF", reward={"builtIn": "OnTopic"}, evaluation=evaluation)
    assert isinstance(task.parameters, RlhfParameters)
    assert task.parameters.reward == RewardParameters(built_in="OnTopic")
    assert task.parameters.evaluation is not None
    assert task.parameters.evaluation.judge == RewardParameters()
    assert task.parameters.evaluation.gates.min_win_rate == "0.5"
    assert getattr(task.inputs["judge"], "store", None) == "judge-models"
    assert set(task.stores) == {"outputs", "datasets", "judge-models"}


def test_micro_batches_divide_a_step() -> None:
    reward = {"builtIn": "OnTopic"}
    some = told(method="RLHF", reward=reward, rlhf={"microBatchSize": 8}).parameters
    assert getattr(some, "micro_batch_size", None) == 8
    assert getattr(told(method="RLHF", reward=reward).parameters, "micro_batch_size", 0) is None
    with pytest.raises(ValidationError, match="microBatchSize must divide promptsPerStep"):
        told(method="RLHF", reward=reward, rlhf={"microBatchSize": 5})


PAIRS = {"uri": "s3://outputs/pairs.jsonl", "digest": samples.DIGEST}


def planned(trained: dict[str, Any]) -> tuple[AlignmentRunSpec, tasks.StagePlan]:
    made = samples.alignment(method="RLHF", reward={"trained": {"preferences": PAIRS, **trained}})
    spec = AlignmentRunSpec.model_validate(made["spec"])
    assert spec.reward is not None
    assert spec.reward.trained is not None
    return spec, tasks.reward_model(META, spec, spec.reward.trained)


def test_a_reward_is_learnt_by_a_stage_of_its_own_from_the_run_s_base_model() -> None:
    spec, plan = planned({"heldOutShare": "0.2", "learningRate": "0.001"})
    parameters = plan.task.parameters
    assert isinstance(parameters, RewardModelParameters)
    assert (parameters.held_out_share, parameters.learning_rate) == ("0.2", "0.001")
    base = ModelInput(store="outputs", uri=spec.base_model.uri, digest=samples.DIGEST)
    given = FileInput(store="outputs", uri=PAIRS["uri"], digest=samples.DIGEST)
    assert plan.task.inputs == {"base": base, "preferences": given}
    assert set(plan.task.stores) == {"outputs"}
    assert plan.task.output.uri.startswith("s3://outputs/assistant/reward-")

    learnt = ArtifactRef(uri=plan.manifests[0], digest=samples.DIGEST)
    origin = Location.model_validate({"uri": "s3://outputs/questions/", "storage": samples.STORAGE})
    task = tasks.align(META, spec, DATASET, origin, "", (learnt,)).task
    assert isinstance(task.parameters, RlhfParameters)
    assert task.parameters.reward == RewardParameters()
    assert task.inputs["reward"] == ArtifactInput(
        store="outputs", uri=learnt.uri, digest=samples.DIGEST
    )


def test_a_reward_s_own_base_model_comes_from_its_own_store() -> None:
    own = {"uri": "s3://small/base/", "digest": samples.DIGEST, "chatTemplate": "{{ 1 }}"}
    _, plan = planned({"baseModel": {**own, "storage": ELSEWHERE}})
    assert getattr(plan.task.inputs["base"], "store", None) == "models"
    assert plan.task.stores["models"].endpoint == "https://models.example.com"
    assert getattr(plan.task.parameters, "chat_template", None) == "{{ 1 }}"


@pytest.mark.parametrize(
    "reward", [{}, {"builtIn": "OnTopic", "trained": {"preferences": PAIRS}}], ids=["none", "two"]
)
def test_exactly_one_reward_is_taken(reward: dict[str, Any]) -> None:
    made = samples.alignment(method="RLHF", reward=reward)
    with pytest.raises(
        ValidationError, match="exactly one of model, builtIn, endpoint and trained"
    ):
        AlignmentRunSpec.model_validate(made["spec"])


RANKER = {"baseURL": "https://rank.example.com/v1", "model": "large-1", "secretName": "ranker"}
JUDGE = {"baseURL": "https://judge.example.com/v1", "model": "large-2", "secretName": "judge"}


def judged(judge: dict[str, Any]) -> tasks.StagePlan:
    evaluation = samples.alignment()["spec"]["evaluation"] | {"judge": {"endpoint": judge}}
    reward = {"endpoint": RANKER}
    made = samples.alignment(method="DPO", reward=reward, evaluation=evaluation)
    spec = AlignmentRunSpec.model_validate(made["spec"])
    origin = Location.model_validate({"uri": "s3://outputs/questions/", "storage": samples.STORAGE})
    return tasks.align(META, spec, DATASET, origin, "")


def test_what_endpoints_are_asked_is_work_and_how_is_not() -> None:
    plan = judged(JUDGE | {"maxNewTokens": 400})
    task = plan.task
    assert task.inputs["reward"] == EndpointInput(
        base_url="https://rank.example.com/v1", model="large-1"
    )
    assert task.inputs["judge"] == EndpointInput(
        base_url="https://judge.example.com/v1", model="large-2"
    )
    assert {name: each.secret for name, each in task.endpoints.items()} == {
        "reward": "ranker",
        "judge": "judge",
    }
    assert isinstance(task.parameters, DpoParameters)
    assert task.parameters.reward == RewardParameters(max_new_tokens=16)
    assert task.parameters.evaluation is not None
    assert task.parameters.evaluation.judge == RewardParameters(max_new_tokens=400)
    same = JUDGE | {"maxNewTokens": 400, "secretName": "other", "concurrency": 64}
    assert judged(same).digest == plan.digest
    assert judged(JUDGE | {"maxNewTokens": 400, "model": "small"}).digest != plan.digest
    assert judged(JUDGE).digest != plan.digest


def test_the_keys_of_both_are_mounted_and_a_failure_names_both() -> None:
    plan = judged(JUDGE)
    settings = Settings(stage_image="stage", cluster="c1")
    made = jobs.manifest(META, plan.task, plan.digest, Compute(), settings, None, 1)
    volumes = made["spec"]["template"]["spec"]["volumes"]
    secrets = {each["secret"]["secretName"] for each in volumes if "secret" in each}
    assert secrets == {"store", "ranker", "judge"}
    pods = (Pod("p", "Failed", Outcome.ENDPOINT_RATE_LIMITED, None),)
    job = failed(stage="dpo", pods=pods, compute="given")
    step = stages.retried(plan, job, attempts.retry_at(job, "given"), NOW)
    assert (step.verdict.state, step.verdict.reason) == ("Reconciling", "EndpointRateLimited")
    for told in ("rank.example.com/v1, model large-1", "Secret judge"):
        assert told in step.verdict.message
