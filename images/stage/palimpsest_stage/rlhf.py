"""Stage rlhf: reinforcement learning from feedback on the policy's own answers, with LoRA."""

import math
from functools import partial
from typing import Any

from datasets import Dataset
from palimpsest.api.task import RlhfParameters
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer
from trl.trainer.utils import RepeatSampler

from palimpsest_stage.alignment import card, rewards, tuning
from palimpsest_stage.alignment.rewards import Reward
from palimpsest_stage.alignment.stage import Trained, align
from palimpsest_stage.alignment.tuning import Bound
from palimpsest_stage.annotate import chat_prompt
from palimpsest_stage.errors import DatasetUnsuitable, Diverged
from palimpsest_stage.models import check_positions
from palimpsest_stage.runtime import Context


class Prompts(RepeatSampler):  # type: ignore[misc]
    """TRL's order of the prompts, but each epoch's from a seed of its own.

    TRL's goes on from where its generator is, which a run that is resumed cannot know.
    """

    def set_epoch(self, epoch: int) -> None:
        """Called before each epoch, of a resumed run too."""
        self.generator.manual_seed(self.seed + epoch)


def _resumable(trainer: Any) -> Any:
    """The trainer, drawing its prompts so."""

    def drawn(self: Any, dataset: Dataset | None = None) -> Prompts:
        theirs = trainer._get_train_sampler(self, dataset)
        return Prompts(
            theirs.data_source,
            mini_repeat_count=theirs.mini_repeat_count,
            batch_size=theirs.batch_size,
            repeat_count=theirs.repeat_count,
            seed=theirs.seed,
        )

    return type(trainer.__name__, (trainer,), {"_get_train_sampler": drawn})


TRAINERS = {
    "GRPO": (GRPOConfig, _resumable(GRPOTrainer)),
    "RLOO": (RLOOConfig, _resumable(RLOOTrainer)),
}
# A figure of training.json and what TRL logs it as.
CURVES = {
    "reward": "reward",
    "rewardSpread": "reward_std",
    "kl": "kl",
    "completionTokens": "completions/mean_length",
    "completionsCut": "completions/clipped_ratio",
    "loss": "loss",
}


def run(context: Context, _report: dict[str, Any]) -> None:
    """Publish the policy that earns more."""
    parameters = context.parameters(RlhfParameters)
    prompts = [row["instruction"] for row in context.instructions("dataset")]
    if not prompts:
        raise DatasetUnsuitable("the data set has no instruction")
    if len(prompts) < parameters.batch_size:
        raise DatasetUnsuitable(
            f"rlhf.promptsPerStep: the data set has {len(prompts)} instructions, a step takes "
            f"{parameters.batch_size}: lower it to {len(prompts)} at most"
        )
    reward = rewards.load(context, "reward", parameters.reward)
    align(context, parameters, partial(reinforce, context, parameters, prompts, reward))


def reinforce(
    context: Context,
    parameters: RlhfParameters,
    prompts: list[str],
    reward: Reward,
    model: Any,
    tokenizer: Any,
) -> Trained:
    """One step samples, scores and updates once. Raises Diverged."""
    longest = max(len(chat_prompt(tokenizer, text, "")) for text in prompts)
    check_positions(model, longest + parameters.max_new_tokens, "rlhf.maxNewTokens")
    config, trainer_class = TRAINERS[parameters.algorithm]
    # TRL tells trainers' rewards apart by name.
    scored = partial(score, context, reward)
    asked = parameters.batch_size * parameters.completions
    at_once = parameters.micro_batch_size or asked
    scored.__name__ = "reward"  # type: ignore[attr-defined]
    trainer = trainer_class(
        model=model,
        reward_funcs=scored,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(
            [{"prompt": [{"role": "user", "content": text}]} for text in prompts]
        ),
        args=config(
            **tuning.arguments(context, parameters),
            max_steps=parameters.steps,
            per_device_train_batch_size=at_once,
            # All completions of a step are sampled before the first of its passes.
            gradient_accumulation_steps=asked // at_once,
            num_generations=parameters.completions,
            max_completion_length=parameters.max_new_tokens,
            beta=float(parameters.kl_coefficient),
            lr_scheduler_type="linear",
        ),
        peft_config=tuning.adapters(parameters),
    )
    bounds = {
        "kl": Bound(
            "KL for each token",
            float(parameters.max_kl),
            "lower rlhf.learningRate or raise rlhf.klCoefficient",
        ),
    }
    curves = [
        {"step": entry["step"], **{name: entry.get(key) for name, key in CURVES.items()}}
        for entry in tuning.train(context, trainer, bounds)
        if "loss" in entry
    ]
    return Trained(
        model=tuning.finished(trainer, parameters),
        method="RLHF",
        summary={"prompts": len(prompts), "steps": curves},
        learnt=f"Trained on its own answers to {len(prompts)} synthetic instructions, which a "
        f"reward scored: {curves[0]['reward']:.4g} on average at first, "
        f"{curves[-1]['reward']:.4g} at last.",
        settings={
            "algorithm": parameters.algorithm,
            "reward": card.reward(context, parameters.reward),
            "KL coefficient": parameters.kl_coefficient,
            "steps": f"{parameters.steps}, of {asked} completions to {parameters.batch_size} "
            f"instructions, {at_once} at a time",
            "tokens": f"at most {parameters.max_new_tokens} a completion",
        },
        losses=[one["loss"] for one in curves],
    )


def score(
    context: Context,
    reward: Reward,
    prompts: list[Any],
    completions: list[Any],
    trainer_state: Any,
    **_more: Any,
) -> list[float]:
    """What TRL asks of a reward: a number for each completion to a conversation. Raises Diverged.

    TRL's means would leave out what is no number, and so reward a policy for it.
    """
    scores = reward(
        [prompt[-1]["content"] for prompt in prompts],
        [completion[0]["content"] for completion in completions],
    )
    wrong = [one for one in scores if not math.isfinite(one)]
    if wrong:
        done = trainer_state.global_step
        context.progress(done, trainer_state.max_steps, "steps", last=True)
        raise Diverged(
            f"step {done + 1}: the reward of a completion is {wrong[0]:g}: take another spec.reward"
        )
    return scores
