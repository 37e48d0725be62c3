"""The rlhf stage as a program: rewards rise, and a policy that runs away is stopped."""

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cluster.fixtures import ObjectStore
from palimpsest.api.task import RlhfParameters, Task
from palimpsest_stage.alignment.rewards import BuiltInReward
from palimpsest_stage.alignment.tuning import Bound, Watch
from palimpsest_stage.errors import DatasetUnsuitable, Diverged, Interrupted
from palimpsest_stage.models import load_causal
from palimpsest_stage.rlhf import reinforce, run
from palimpsest_stage.runtime import Context
from unit.stage.aligned import ROWS, TEMPLATE, alignment, rlhf
from unit.stage.ground import Ground


@pytest.fixture
def ground(object_store: ObjectStore, tmp_path: Path) -> Ground:
    return Ground.on(object_store, tmp_path, tmp_path.name.replace("_", "-"), 100)


def steps(ground: Ground, task: Task) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ground.read(task.output, "training.json"))["steps"]
    return found


@pytest.mark.parametrize("algorithm", ["GRPO", pytest.param("RLOO", marks=pytest.mark.full)])
def test_the_policy_comes_to_earn_more(ground: Ground, model_folder: Path, algorithm: str) -> None:
    task = alignment(ground, model_folder, rlhf(algorithm=algorithm))
    ended = ground.run(task)
    assert ended.outcome == "Completed", ended.said
    curves = steps(ground, task)
    assert [one["step"] for one in curves] == list(range(1, 41))
    assert all(0 < one["completionTokens"] <= 24 for one in curves)
    # It begins where its reference is.
    assert curves[0]["kl"] == pytest.approx(0, abs=0.01)
    assert abs(curves[-1]["kl"]) > 0.1
    # Means of 256 completions, whose rewards spread by 0.1.
    first, last = (sum(one["reward"] for one in some) / 8 for some in (curves[:8], curves[-8:]))
    assert last > first + 0.04
    card = ground.read(task.output, "README.md").decode()
    assert f"| algorithm | {algorithm} |" in card
    assert "| KL coefficient | 0.001 |" in card


def test_a_policy_that_runs_away_is_stopped_at_the_step_that_is_told(
    ground: Ground, model_folder: Path
) -> None:
    task = alignment(ground, model_folder, rlhf(learning_rate="0.1", max_kl="0.05"))
    ended = ground.run(task)
    assert ended.outcome == "Diverged"
    assert "above 0.05: lower rlhf.learningRate or raise rlhf.klCoefficient" in ended.said
    told = json.loads(ground.store("root").get(f"{task.output.uri}progress.json"))
    assert 1 < told["done"] < told["total"] == 40
    assert told["figures"].keys() == {"loss", "reward", "kl", "completionTokens"}
    assert told["figures"]["kl"] > 0.05
    assert f"step {told['done']}: KL for each token is" in ended.said
    assert not ground.store("root").exists(f"{task.output.uri}manifest.json")


@pytest.mark.parametrize(
    ("logs", "said"),
    [
        ({"loss": float("nan")}, "step 3: the loss is nan: lower learningRate"),
        ({"loss": float("inf")}, "step 3: the loss is inf"),
        ({"loss": 1.0, "kl": 2.5}, "step 3: KL is 2.5, above 2: less"),
        ({"loss": 1.0, "kl": None}, "step 3: KL is nan, above 2: less"),
    ],
)
def test_a_figure_that_is_none_or_too_high_ends_the_training(
    logs: dict[str, Any], said: str
) -> None:
    told: list[Any] = []
    context: Any = SimpleNamespace(
        progress=lambda *given, last, figures: told.append((given, last, figures))
    )
    watch = Watch(context, {"kl": Bound("KL", 2.0, "less")})
    state = SimpleNamespace(global_step=3, max_steps=9)
    watch.on_log(None, state, None, {"loss": 1.0, "kl": 2.0})
    # The last word of a training has neither.
    watch.on_log(None, state, None, {"train_runtime": 4.0})
    assert told == []
    with pytest.raises(Diverged, match=said):
        watch.on_log(None, state, None, logs)
    # What is no number is told by none.
    numbers = {key: value for key, value in logs.items() if value and math.isfinite(value)}
    assert told == [((3, 9, "steps"), True, numbers)]


@pytest.mark.full
def test_a_killed_run_ends_with_the_weights_of_an_undisturbed_one(
    ground: Ground, model_folder: Path
) -> None:
    task = alignment(ground, model_folder, rlhf(steps=30))
    output = task.output.model_copy(update={"uri": f"{task.output.uri}undisturbed/"})
    undisturbed = task.model_copy(update={"output": output})
    beside = ground.start(undisturbed)
    ground.killed_after(task, "/checkpoint.json")
    assert beside.wait().outcome == "Completed"
    second = ground.run(task, attempt=2)
    assert second.outcome == "Completed", second.said
    assert "going on from step" in second.said
    weights = [ground.read(one.output, "model.safetensors") for one in (task, undisturbed)]
    assert weights[0] == weights[1]
    assert steps(ground, task) == steps(ground, undisturbed)


def test_fewer_instructions_than_a_step_takes_are_told(ground: Ground, model_folder: Path) -> None:
    task = alignment(ground, model_folder, rlhf(batch_size=3), ROWS[:2])
    with pytest.raises(DatasetUnsuitable, match=r"^rlhf.promptsPerStep: .* has 2 .* takes 3: low"):
        run(Context(task, ground.environment(task)), {})


class Scores:
    """Tells of the instructions that it was asked about, and kills the run at that call."""

    def __init__(self, killed: int | None = None) -> None:
        self.asked: list[list[str]] = []
        self._killed = killed

    def __call__(self, instructions: Sequence[str], answers: Sequence[str]) -> list[float]:
        if len(self.asked) == self._killed:
            raise Interrupted
        self.asked.append(sorted(set(instructions)))
        return BuiltInReward("Informative")(instructions, answers)


@pytest.mark.parametrize(
    ("algorithm", "killed"), [("GRPO", 5), ("RLOO", 5), ("GRPO", None)], ids=str
)
def test_a_run_resumed_in_a_later_epoch_or_after_its_last_step_is_the_undisturbed_one(
    ground: Ground, model_folder: Path, algorithm: str, killed: int | None
) -> None:
    parameters = rlhf(
        algorithm=algorithm, steps=8, completions=2, max_new_tokens=2, checkpoint_interval=1
    )
    # Three steps an epoch, so that the last step is no epoch's last.
    texts = [row["instruction"] for row in ROWS[:6]]
    task = alignment(ground, model_folder, parameters)

    def learnt(place: str, reward: Scores) -> tuple[torch.Tensor, list[dict[str, Any]]]:
        output = task.output.model_copy(update={"uri": f"{task.output.uri}{tag}/{place}/"})
        here = task.model_copy(update={"output": output})
        model, tokenizer = load_causal(model_folder, "float32", TEMPLATE)
        context = Context(here, ground.environment(here))
        trained = reinforce(context, parameters, texts, reward, model, tokenizer)
        weights = [each.detach().flatten() for each in trained.model.parameters()]
        return torch.cat(weights), trained.summary["steps"]

    tag = f"{algorithm}-{killed}"
    whole, first, second = Scores(), Scores(killed), Scores()
    weights, curve = learnt("undisturbed", whole)
    with suppress(Interrupted):
        learnt("killed", first)
    found, told = learnt("killed", second)
    assert first.asked + second.asked == whole.asked
    assert len(whole.asked) == 8
    # Each epoch's order is another.
    assert whole.asked[:3] != whole.asked[3:6]
    assert torch.equal(found, weights)
    assert told == curve


@pytest.mark.parametrize(("algorithm", "wrong"), [("GRPO", math.nan), ("RLOO", -math.inf)])
def test_one_reward_that_is_no_number_ends_the_run(
    ground: Ground, model_folder: Path, algorithm: str, wrong: float
) -> None:
    asked = []

    def scores(instructions: Sequence[str], answers: Sequence[str]) -> list[float]:
        assert len(instructions) == len(answers)
        asked.append(len(answers))
        return [float(n) for n in range(len(answers) - 1)] + [wrong if len(asked) == 3 else 9.0]

    parameters = rlhf(algorithm=algorithm, steps=8, completions=4, max_new_tokens=2)
    task = alignment(ground, model_folder, parameters)
    model, tokenizer = load_causal(model_folder, "float32", TEMPLATE)
    texts = [row["instruction"] for row in ROWS[:4]]
    context = Context(task, ground.environment(task))
    said = rf"^step 3: the reward of a completion is {wrong:g}: take another spec\.reward$"
    with pytest.raises(Diverged, match=said):
        reinforce(context, parameters, texts, scores, model, tokenizer)
    assert asked == [8, 8, 8]
    told = json.loads(ground.store("root").get(f"{task.output.uri}progress.json"))
    assert (told["done"], told["total"]) == (2, 8)


@pytest.mark.parametrize("algorithm", ["GRPO", "RLOO"])
def test_micro_batches_learn_the_same(ground: Ground, model_folder: Path, algorithm: str) -> None:
    whole = rlhf(
        algorithm=algorithm,
        steps=2,
        completions=8,
        max_new_tokens=8,
        kl_coefficient="0.1",
        checkpoint_interval=100,
    )
    task = alignment(ground, model_folder, whole)
    # One context, so one seed: the completions are the same.
    context = Context(task, ground.environment(task))

    def learnt(parameters: RlhfParameters) -> tuple[torch.Tensor, list[dict[str, Any]]]:
        model, tokenizer = load_causal(model_folder, "float32", TEMPLATE)
        texts = [row["instruction"] for row in ROWS[:4]]
        reward = BuiltInReward("Informative")
        trained = reinforce(context, parameters, texts, reward, model, tokenizer)
        return flat(trained.model), trained.summary["steps"]

    def flat(model: Any) -> torch.Tensor:
        return torch.cat([each.detach().flatten() for each in model.parameters()])

    before = flat(load_causal(model_folder, "float32", None)[0])
    weights, curve = learnt(whole)
    parts, parts_curve = learnt(whole.model_copy(update={"micro_batch_size": 4}))
    # Rounding alone is between them, and that is far below what the steps move.
    assert (weights - before).norm() > 0.1
    assert (weights - parts).norm() < (weights - before).norm() / 100
    for one, other in zip(curve, parts_curve, strict=True):
        assert one["step"] == other["step"]
        assert one["reward"] == pytest.approx(other["reward"], abs=1e-6)
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-4)
