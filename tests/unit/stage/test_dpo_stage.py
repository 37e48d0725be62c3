"""The dpo stage as a program: by a reward, by a reward model, by given pairs, and with none."""

import json
from pathlib import Path
from typing import Any

import pytest
from cluster.fixtures import ObjectStore
from palimpsest.api.task import RewardParameters
from palimpsest_stage.alignment import preferences
from palimpsest_stage.alignment.rewards import BuiltInReward
from palimpsest_stage.dpo import prefer
from palimpsest_stage.models import load_causal
from palimpsest_stage.runtime import Context
from palimpsest_stage.sft import fine_tune
from unit.stage.aligned import ROWS, TEMPLATE, alignment, dpo, public_file, sft
from unit.stage.ground import Ground
from unit.stage.tiny import tiny_classifier

CHOICES: list[dict[str, Any]] = [
    row | {"answers": ["yes it is so", "is more", f"is {row['id']}"]} for row in ROWS
]


@pytest.fixture
def ground(object_store: ObjectStore, tmp_path: Path) -> Ground:
    return Ground.on(object_store, tmp_path, tmp_path.name.replace("_", "-"), 100)


def test_the_policy_comes_to_prefer_what_the_reward_prefers(
    ground: Ground, model_folder: Path
) -> None:
    rows: list[dict[str, Any]] = [*CHOICES, ROWS[0], ROWS[1] | {"answers": ["is is", "more"]}]
    task = alignment(ground, model_folder, dpo(), rows)
    ended = ground.run(task)
    assert ended.outcome == "Completed", ended.said
    told = json.loads(ground.read(task.output, "training.json"))
    assert (told["pairs"], told["ties"], told["withoutChoice"]) == (64, 1, 1)
    assert len(told["loss"]) == 32
    # Two answers that the model took for alike, loss ln 2; the better one wins by far at last.
    assert told["loss"][0]["loss"] == pytest.approx(0.693, abs=0.01)
    assert told["loss"][-1]["loss"] < 0.3
    assert told["loss"][-1]["accuracy"] == 1
    card = ground.read(task.output, "README.md").decode()
    assert "64 synthetic instructions (1 ties dropped)" in card
    assert "| preferences | ranked by Informative |" in card


def test_pairs_come_from_a_reward_model_or_a_file(
    ground: Ground, model_folder: Path, tmp_path: Path
) -> None:
    reward = ground.push_model(tiny_classifier(tmp_path / "reward"), "s3://models/tiny-reward/")
    parameters = dpo(epochs=1, reward=RewardParameters())
    ranked = alignment(ground, model_folder, parameters, CHOICES, reward=reward)
    pairs = [{"instruction": "a", "chosen": "yes", "rejected": "no"}] * 8
    same = {"instruction": "a", "chosen": "yes", "rejected": "yes"}
    public = public_file(ground, [*pairs, same])
    given = alignment(
        ground,
        model_folder,
        dpo(reward=None),
        ROWS,
        preferences=public,
    )
    beside = ground.start(given)
    ended = ground.run(ranked)
    assert ended.outcome == "Completed", ended.said
    assert json.loads(ground.read(ranked.output, "training.json"))["pairs"] == 64
    card = ground.read(ranked.output, "README.md").decode()
    named = f"`s3://models/tiny-reward/`, `{reward.digest}`"
    assert f"| preferences | ranked by the reward model {named} |" in card
    ended = beside.wait()
    assert ended.outcome == "Completed", ended.said
    told = json.loads(ground.read(given.output, "training.json"))
    assert (told["pairs"], told["ties"]) == (8, 1)
    card = ground.read(given.output, "README.md").decode()
    assert "in 8 pairs of a public file, not of the data set (1 ties dropped)" in card
    assert "synthetic instructions" not in card
    assert f"| preferences | `{public.uri}`, `{public.digest}` |" in card


def test_without_a_pair_the_remedy_is_named(
    ground: Ground, model_folder: Path, tmp_path: Path
) -> None:
    none = ground.start(alignment(ground, model_folder, dpo()))
    causal = ground.push_model(model_folder, "s3://models/causal-reward/")
    parameters = dpo(reward=RewardParameters())
    headless = ground.run(alignment(ground, model_folder, parameters, CHOICES, reward=causal))
    assert headless.outcome == "ModelUnsuitable"
    assert "spec.reward.model: LlamaForCausalLM gives no reward" in headless.said
    ended = none.wait()
    assert ended.outcome == "DatasetUnsuitable"
    assert "64 have fewer than two" in ended.said
    assert "set annotation.answers of the data set to 2 or more" in ended.said


def test_what_the_length_leaves_no_answer_of_is_counted_as_that(
    ground: Ground, model_folder: Path
) -> None:
    long = {"instruction": "so " * 30, "answer": "yes", "answers": ["yes it is so", "is so"]}
    rows: list[dict[str, Any]] = [*CHOICES[:4], long]
    ranked = preferences.rank(rows, BuiltInReward("Informative"))
    assert len(ranked.pairs) == 5

    def given(parameters: Any) -> tuple[Context, Any]:
        task = alignment(ground, model_folder, parameters, rows)
        return Context(task, ground.environment(task)), parameters

    def loaded() -> tuple[Any, Any]:
        return load_causal(model_folder, "float32", TEMPLATE)

    tuned = fine_tune(*given(sft(epochs=1)), rows, {}, *loaded())
    preferred = prefer(*given(dpo(epochs=1)), ranked, *loaded())
    for made, name in ((tuned, "rows"), (preferred, "pairs")):
        assert (made.summary[name], made.summary["tooLong"]) == (4, 1)
        assert " 4 synthetic instructions" in made.learnt
