"""Students of real, synthetic and public instructions, and how they do.

The same student is fine-tuned on as many instructions of each kind, answered by the same teacher:
a public system prompt and the best of several answers by a reward.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from cluster import parts
from cluster.cache import write_atomic
from embeddings import embed_all
from palimpsest.api.task import SftParameters
from palimpsest_stage.alignment.evaluation import likelihood
from palimpsest_stage.alignment.rewards import BuiltInReward, Reward
from palimpsest_stage.alignment.tuning import prepare
from palimpsest_stage.annotate import answer, chat_prompt, replies
from palimpsest_stage.decode import nucleus
from palimpsest_stage.embed import Embedder
from palimpsest_stage.models import load_causal
from palimpsest_stage.runtime import Context
from palimpsest_stage.sft import fine_tune
from unit.stage.resampled import Clustered

from bench import standing
from bench.fidelity import CLUSTERS, SIGMA
from bench.page import ROOT
from bench.pools import DATA, pool
from bench.private_sets import PUBLIC

KEPT = ROOT / "build" / "bench" / "relations"
EPSILONS = ("3", "8")
# Instructions that a student learns from, of so many of a generator's.
SIZE, POOL = 512, 10_000
ANSWERS, NEW_TOKENS, TEMPERATURE, TOP_P, ROWS = 4, 32, 0.7, 0.95, 128
SYSTEM_PROMPT = (
    "You answer questions that people type into a search engine. Say yes or no first where the "
    "question allows it, then why, in one short sentence."
)
TEACHES, JUDGES = "Informative", "OnTopic"
# Held-out real questions whose answers' likelihood is measured, and of these the ones answered.
HELD_OUT, JUDGED = 640, 320
EPOCHS, BATCH, RATE, MAX_LENGTH, RANK = 2, 16, "0.0005", 96, 8
REAL, PUBLIC_ONLY, BEFORE, AFTER = "real", "public", "before resampling", "after resampling"


@dataclass(frozen=True)
class Arm:
    """What a student learns from; synthetic instructions are of a generator at `epsilon`."""

    kind: str
    epsilon: str = ""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.kind}, epsilon {self.epsilon}" if self.epsilon else self.kind


ARMS = (
    Arm(REAL),
    *(Arm(kind, epsilon) for epsilon in EPSILONS for kind in (BEFORE, AFTER)),
    Arm(PUBLIC_ONLY),
)
UNTRAINED = Arm("untrained")


@dataclass(frozen=True)
class Student:
    """How a student does on held-out real questions, one figure for each."""

    nll: list[float]
    scores: list[float]


def kept(name: str, make: Callable[[], Any]) -> Any:
    """What `make` says, made once."""
    path = KEPT / f"{name.replace(' ', '-').replace(',', '')}.json"
    if not path.exists():
        write_atomic(path, json.dumps(make()))
    return json.loads(path.read_text())


def held_out() -> tuple[list[str], list[str]]:
    """Real questions that nobody learns from, and the teacher's answers."""
    _, asked = DATA.texts()
    some = asked[:HELD_OUT]
    return some, kept("held-out", lambda: taught(some, seed=0))


def instructions(arm: Arm, seed: int) -> list[str]:
    """As many of every arm, another draw with every seed."""
    at_random = np.random.default_rng(seed)
    private, _ = DATA.texts()
    if arm.kind == REAL:
        return _some(private, at_random)
    if arm.kind == PUBLIC_ONLY:
        return _some(PUBLIC.texts()[0], at_random)
    texts = pool(seed, POOL, arm.epsilon)
    if arm.kind == BEFORE:
        return _some(texts, at_random)
    clustered = Clustered.from_points(_embedded(texts), _embedded(private), CLUSTERS, seed)
    chosen = clustered.chosen(clustered.noisy(SIGMA), SIZE, seed)
    return [texts[index] for index in chosen]


def student(arm: Arm, seed: int) -> Student:
    """Trained and examined, or examined alone."""
    model, tokenizer = load_causal(parts.smollm2().folder, "bfloat16")
    if arm != UNTRAINED:
        asked = kept(f"instructions {arm.name} {seed}", lambda: instructions(arm, seed))
        told = kept(f"answers {arm.name} {seed}", lambda: taught(asked, seed))
        model = _trained(model, tokenizer, asked, told)
    return _examined(model, tokenizer)


def _trained(model: Any, tokenizer: Any, asked: list[str], told: list[str]) -> Any:
    rows = [
        {"id": str(number), "instruction": one, "answer": other}
        for number, (one, other) in enumerate(zip(asked, told, strict=True))
    ]
    parameters = SftParameters(
        batch_size=BATCH,
        learning_rate=RATE,
        lora_rank=RANK,
        merge=True,
        checkpoint_interval=1_000,
        guarantee="none: a benchmark",
        epochs=EPOCHS,
        max_length=MAX_LENGTH,
        packing=False,
    )
    with ExitStack() as held:
        ground = standing.for_stages(held, "students")
        data = ground.push_rows("data.jsonl", rows)
        task = ground.task(parameters, {"dataset": data}, "outputs")
        context = Context(task, ground.environment(task))
        model = prepare(model, parameters)
        return fine_tune(context, parameters, rows, {}, model, tokenizer).model


def _examined(model: Any, tokenizer: Any) -> Student:
    questions, told = held_out()
    asked = questions[:JUDGED]
    answers = answer(model, tokenizer, asked, "", NEW_TOKENS, ROWS, lambda *_: None)
    pairs = zip(questions, told, strict=True)
    return Student(
        [likelihood(model, tokenizer, question, each) for question, each in pairs],
        BuiltInReward(JUDGES)(asked, answers),
    )


def _some(texts: Sequence[str], at_random: np.random.Generator) -> list[str]:
    return [texts[index] for index in at_random.choice(len(texts), SIZE, replace=False)]


@cache
def _embedder() -> Embedder:
    return Embedder(parts.minilm().folder)


def _embedded(texts: Sequence[str]) -> Any:
    return embed_all(_embedder(), texts)


def taught(asked: list[str], seed: int) -> list[str]:
    """The best by the reward of the teacher's answers to each instruction."""
    model, tokenizer = load_causal(parts.smollm2().folder, "bfloat16")
    prompts = [
        chat_prompt(tokenizer, text, SYSTEM_PROMPT) for text in asked for _ in range(ANSWERS)
    ]
    choose = nucleus(TEMPERATURE, TOP_P, torch.Generator().manual_seed(seed))
    texts = [""] * len(prompts)
    for place, ids in replies(model, tokenizer, prompts, NEW_TOKENS, choose, ROWS):
        texts[place] = tokenizer.decode(ids, skip_special_tokens=True).strip()
    groups = [texts[first : first + ANSWERS] for first in range(0, len(texts), ANSWERS)]
    reward = BuiltInReward(TEACHES)
    return [_best(reward, *each) for each in zip(asked, groups, strict=True)]


def _best(reward: Reward, asked: str, told: list[str]) -> str:
    scores = reward([asked] * len(told), told)
    return told[scores.index(max(scores))]
