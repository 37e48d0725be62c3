"""python -m bench.relations: students of real, synthetic and public instructions, into the page.

The same student is fine-tuned on as many instructions of each kind, answered by the same teacher:
a public system prompt and the best of several answers by a reward. Every training is kept in
build/bench/relations/ as soon as it is done; those that are there are not made again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from math import sqrt
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from cluster import parts
from embeddings import embed_all
from palimpsest.api.task import SftParameters
from palimpsest_stage.alignment.evaluation import likelihood
from palimpsest_stage.alignment.rewards import BuiltInReward, Reward
from palimpsest_stage.alignment.statistics import duel, wilson
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
from bench.page import BENCHMARKS, ROOT, renew
from bench.pools import DATA, POOLS, SIZES, pool
from bench.private_sets import PUBLIC

KEPT = ROOT / "build" / "bench" / "relations"
SIZE, POOL = 512, min(SIZES.values())
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
# Student's 97.5% point for three seeds.
T = 4.303


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
    *(Arm(kind, epsilon) for epsilon in SIZES for kind in (BEFORE, AFTER)),
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
        made = make()
        KEPT.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(made))
    return json.loads(path.read_text())


class Scene:
    """The teacher, the examination, and a ground for the training stage."""

    def __init__(self, held: ExitStack) -> None:
        self._ground = standing.for_stages(held, "relations")
        self.private, held_out = DATA.texts()
        self.held_out = held_out[:HELD_OUT]
        self.teacher = kept("held-out", lambda: taught(self.held_out, seed=0))

    def instructions(self, arm: Arm, seed: int) -> list[str]:
        """As many of every arm, another draw with every seed."""
        at_random = np.random.default_rng(seed)
        if arm.kind == REAL:
            return _some(self.private, at_random)
        if arm.kind == PUBLIC_ONLY:
            return _some(PUBLIC.texts()[0], at_random)
        texts = pool(seed, arm.epsilon)[:POOL]
        if arm.kind == BEFORE:
            return _some(texts, at_random)
        clustered = Clustered.from_points(_embedded(texts), _embedded(self.private), CLUSTERS, seed)
        chosen = clustered.chosen(clustered.noisy(SIGMA), SIZE, seed)
        return [texts[index] for index in chosen]

    def student(self, arm: Arm, seed: int) -> Student:
        """Trained and examined, or examined alone."""

        def make() -> dict[str, list[float]]:
            model, tokenizer = load_causal(parts.smollm2().folder, "bfloat16")
            if arm != UNTRAINED:
                asked = kept(
                    f"instructions {arm.name} {seed}", lambda: self.instructions(arm, seed)
                )
                told = kept(f"answers {arm.name} {seed}", lambda: taught(asked, seed))
                model = self._trained(model, tokenizer, asked, told)
            return self._examined(model, tokenizer)

        return Student(**kept(f"student {arm.name} {seed}", make))

    def _trained(self, model: Any, tokenizer: Any, asked: list[str], told: list[str]) -> Any:
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
        data = self._ground.push_rows("data.jsonl", rows)
        task = self._ground.task(parameters, {"dataset": data}, "outputs")
        context = Context(task, self._ground.environment(task))
        model = prepare(model, parameters)
        return fine_tune(context, parameters, rows, {}, model, tokenizer).model

    def _examined(self, model: Any, tokenizer: Any) -> dict[str, list[float]]:
        asked = self.held_out[:JUDGED]
        answers = answer(model, tokenizer, asked, "", NEW_TOKENS, ROWS, lambda *_: None)
        pairs = zip(self.held_out, self.teacher, strict=True)
        return {
            "nll": [likelihood(model, tokenizer, question, told) for question, told in pairs],
            "scores": BuiltInReward(JUDGES)(asked, answers),
        }


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


Found = dict[Arm, list[Student]]


def interval(differences: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high) of what differs from seed to seed; Student's t at 95%."""
    middle = fmean(differences)
    half = T * stdev(differences) / sqrt(len(differences))
    return middle, middle - half, middle + half


def apart(found: Found, one: Arm, other: Arm) -> tuple[float, float, float]:
    """How much likelier `other` makes the answers than `one`, in nats a token."""
    return interval(
        [fmean(a.nll) - fmean(b.nll) for a, b in zip(found[one], found[other], strict=True)]
    )


def win_rate(found: Found, arm: Arm) -> tuple[float, float, float]:
    """(rate, low, high) against the untrained model; a prompt's seeds count as one trial."""
    (base,) = found[UNTRAINED]
    rate = fmean(duel(student.scores, base.scores).rate for student in found[arm])
    return rate, *wilson(rate, len(base.scores))


def section(found: Found) -> str:
    """In Markdown."""
    public, real = Arm(PUBLIC_ONLY), Arm(REAL)
    lines = [
        "## Alignment on real, synthetic and public instructions",
        "",
        f"SmolLM2-135M-Instruct fine-tuned by the stage sft on {SIZE} instructions of each kind "
        f"({EPOCHS} epochs, batch {BATCH}, LoRA rank {RANK}, learning rate {RATE}), {POOLS} seeds: "
        "each another draw, another generator, another order. Private: "
        f"{DATA.name}; public: {PUBLIC.name}; synthetic: of the generators of the table above, "
        f"drawn from {POOL:,} of each, resampled in {CLUSTERS} clusters with noise {SIGMA}. "
        "Teacher: the same model under a public system prompt that the student never sees, the "
        f"best of {ANSWERS} answers of at most {NEW_TOKENS} tokens by `{TEACHES}`. NLL: of the "
        f"teacher's answers to {HELD_OUT} held-out private questions, nats a token, mean (least "
        f"to greatest); win rate: against the untrained model on {JUDGED} of them, by `{JUDGES}`, "
        "with Wilson's 95% interval. `make relations`.",
        "",
        "| learnt from | held-out NLL | share of the gap closed | win rate |",
        "|---|---|---|---|",
    ]
    lines.append(f"| {UNTRAINED.name} | {fmean(found[UNTRAINED][0].nll):.4f} | | |")
    gap, low, high = apart(found, public, real)
    for arm in ARMS:
        nll = [fmean(student.nll) for student in found[arm]]
        told = f"{fmean(nll):.4f} ({min(nll):.4f} to {max(nll):.4f})"
        closed = ""
        if arm.epsilon and low > 0:
            closed = f"{apart(found, public, arm)[0] / gap:.2f}"
        rate = "{:.3f} ({:.3f} to {:.3f})".format(*win_rate(found, arm))
        lines.append(f"| {arm.name} | {told} | {closed} | {rate} |")
    lines += [
        "",
        f"Differences paired by seed, with Student's 95% interval of {POOLS}: public less real "
        f"{_told(gap, low, high)}"
        + "".join(
            f"; at epsilon {epsilon} before less after "
            f"{_told(*apart(found, Arm(BEFORE, epsilon), Arm(AFTER, epsilon)))}, public less after "
            f"{_told(*apart(found, public, Arm(AFTER, epsilon)))}"
            for epsilon in SIZES
        )
        + ".",
    ]
    if low <= 0:
        lines.append("Public and real are not apart outside their interval: no share is stated.")
    return "\n".join(lines)


def _told(middle: float, low: float, high: float) -> str:
    return f"{middle:.4f} ({low:.4f} to {high:.4f})"


def main(arguments: list[str]) -> int:
    """Trains what is missing, seed by seed; renews the page when all are there."""
    argparse.ArgumentParser(prog="bench.relations", description=__doc__).parse_args(arguments)
    found: Found = {arm: [] for arm in ARMS}
    began = time.monotonic()
    with ExitStack() as held:
        scene = Scene(held)
        found[UNTRAINED] = [scene.student(UNTRAINED, 0)]
        for seed in range(POOLS):
            for arm in ARMS:
                found[arm].append(scene.student(arm, seed))
                nll = fmean(found[arm][-1].nll)
                seconds = time.monotonic() - began
                print(f"{seed}, {arm.name}: {nll:.4f} ({seconds:.0f} s)", flush=True)
    renew(BENCHMARKS, "relations", section(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
