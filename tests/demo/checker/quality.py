"""How good the synthetic questions and the aligned model are, on public held-out questions."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load as load_tensors

from demo.checker import models
from demo.checker.artifacts import Artifact, of_stage
from demo.checker.bucket import Bucket, CheckError, sha256
from demo.checker.text import share_yes_no, total_variation

NLL_QUESTIONS = 320
BASE_SAMPLES = 128
ANSWER_TOKENS = 48
SHOWN = 12
SHOWN_ANSWERS = 6


@dataclass(frozen=True)
class Chain:
    """The artifacts of one run of the pipeline, by stage."""

    train: Artifact
    pool: list[Artifact]
    cluster: Artifact
    histogram: Artifact
    select: Artifact
    sft: Artifact


def chain(
    artifacts: list[Artifact],
    generator: tuple[str, str],
    dataset: tuple[str, str],
    run: tuple[str, str],
) -> Chain:
    """The run's artifacts; resources as (namespace, name). Raises CheckError if one is missing."""

    def one(stage: str, subject: tuple[str, str]) -> Artifact:
        found = of_stage(artifacts, stage, subject)
        if len(found) != 1:
            raise CheckError(f"{len(found)} artifacts of {stage} for {'/'.join(subject)}, not one")
        return found[0]

    pool = of_stage(artifacts, "sample", dataset)
    if not pool:
        raise CheckError(f"no pool for {'/'.join(dataset)}")
    return Chain(
        train=one("train", generator),
        pool=pool,
        cluster=one("cluster", dataset),
        histogram=one("histogram", dataset),
        select=one("select", dataset),
        sft=one("sft", run),
    )


def measure(bucket: Bucket, found: Chain, held_out: Sequence[str], scratch: Path) -> dict[str, Any]:
    """All figures. Model folders and adapters are kept in `scratch`, by digest."""
    texts = {
        "heldOut": list(held_out),
        "pool": [
            row["instruction"]
            for part in found.pool
            for row in part.lines(bucket, "instructions.jsonl")
        ],
        "selected": [row["instruction"] for row in found.select.lines(bucket, "selected.jsonl")],
    }
    figures = _clusters(bucket, found, texts, scratch)
    figures |= _language(bucket, found, texts, scratch)
    return figures


def _model(bucket: Bucket, artifact: Artifact, name: str, scratch: Path) -> Path:
    given = artifact.manifest["inputs"][name]
    place = scratch / given["digest"].removeprefix("sha256:")[:16]
    return models.fetch_model(bucket, given["uri"], given["digest"], place)


def _clusters(
    bucket: Bucket, found: Chain, texts: dict[str, list[str]], scratch: Path
) -> dict[str, Any]:
    embedder = _model(bucket, found.cluster, "embedder", scratch)
    partition = load_tensors(found.cluster.read(bucket, "centroids.safetensors"))
    if set(partition) != {"mean", "components", "centroids"}:
        raise CheckError("centroids.safetensors holds something else than a partition")
    counts: dict[str, list[int]] = {
        name: models.nearest(models.embed(embedder, part), partition)
        for name, part in texts.items()
    }
    noisy = json.loads(found.histogram.read(bucket, "histogram.json"))["noisy"]
    counts["noisy"] = [max(0, count) for count in noisy]
    held = counts["heldOut"]
    apart = {
        name: round(total_variation(counts[name], held), 4)
        for name in ("pool", "selected", "noisy")
    }
    apart["floor"] = round(chance(held, len(texts["selected"])), 4)
    return {"clusters": counts, "totalVariation": apart}


def chance(counts: Sequence[int], size: int, rounds: int = 200) -> float:
    """Median total variation of two samples from `counts`: one of their own size, one of `size`."""
    draw = random.Random(7)
    bins, total = range(len(counts)), sum(counts)
    apart = []
    for _ in range(rounds):
        left, right = ([0] * len(counts) for _ in range(2))
        for index in draw.choices(bins, counts, k=total):
            left[index] += 1
        for index in draw.choices(bins, counts, k=size):
            right[index] += 1
        apart.append(total_variation(left, right))
    return sorted(apart)[rounds // 2]


def _language(
    bucket: Bucket, found: Chain, texts: dict[str, list[str]], scratch: Path
) -> dict[str, Any]:
    held = texts["heldOut"]
    # Every n-th question: the file's order is not random.
    questions = held[:: max(1, len(held) // NLL_QUESTIONS)][:NLL_QUESTIONS]
    model, tokenizer = models.language_model(_model(bucket, found.train, "base", scratch))
    settings = json.loads(found.train.read(bucket, "generator.json"))
    prompt = settings["prompt"]
    published = json.loads(found.sft.read(bucket, "evaluation.json"))["prompts"]
    asked = [entry["instruction"] for entry in published[:SHOWN_ANSWERS]]

    base_nll = models.mean_nll(model, tokenizer, prompt, questions)
    base_samples = models.sample(model, tokenizer, prompt, BASE_SAMPLES, 24)
    before = models.answer(model, tokenizer, asked, ANSWER_TOKENS)
    adapter = found.train.read(bucket, "adapter_model.safetensors")
    models.add_adapter(
        model,
        adapter,
        found.train.read(bucket, "adapter_config.json"),
        scratch / sha256(adapter).removeprefix("sha256:")[:16],
    )
    generator_nll = models.mean_nll(model, tokenizer, prompt, questions)

    aligned = found.sft.folder(bucket, scratch / found.sft.digest.removeprefix("sha256:")[:16])
    after = models.answer(*models.language_model(aligned), asked, ANSWER_TOKENS)
    curve = json.loads(found.sft.read(bucket, "training.json"))["loss"]
    draw = random.Random(11)
    return {
        "nll": {
            "base": round(base_nll, 4),
            "generator": round(generator_nll, 4),
            "questions": len(questions),
        },
        "yesNo": {
            "heldOut": round(share_yes_no(held), 4),
            "base": round(share_yes_no(base_samples), 4),
            "pool": round(share_yes_no(texts["pool"]), 4),
            "selected": round(share_yes_no(texts["selected"]), 4),
        },
        "samples": {
            "base": base_samples[:SHOWN],
            "pool": draw.sample(texts["pool"], min(SHOWN, len(texts["pool"]))),
            "selected": draw.sample(texts["selected"], min(SHOWN, len(texts["selected"]))),
        },
        "answers": [
            {"instruction": question, "before": old, "after": new}
            for question, old, new in zip(asked, before, after, strict=True)
        ],
        "answersAsPublished": {
            side: sum(told[side] == entry for told, entry in zip(published, again, strict=False))
            for side, again in (("before", before), ("after", after))
        },
        "loss": [entry["loss"] for entry in curve],
    }
