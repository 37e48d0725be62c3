"""python -m bench.relations: students of real, synthetic and public instructions, into the page.

How each student does is kept in docs/assets/relations.json as soon as it is known; those that are
there are not trained again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict
from functools import partial
from math import sqrt
from statistics import fmean, stdev
from typing import Any

from cluster.cache import write_atomic
from palimpsest_stage.alignment.statistics import duel, wilson
from scipy.stats import t as student_t  # type: ignore[import-untyped]

from bench.fidelity import CLUSTERS, SIGMA
from bench.page import BENCHMARKS, ROOT, renew
from bench.plots import dots
from bench.pools import DATA, POOLS, pool
from bench.private_sets import PUBLIC
from bench.side_by_side import workers
from bench.students import (
    AFTER,
    ANSWERS,
    ARMS,
    BATCH,
    BEFORE,
    EPOCHS,
    EPSILONS,
    HELD_OUT,
    JUDGED,
    JUDGES,
    NEW_TOKENS,
    POOL,
    PUBLIC_ONLY,
    RANK,
    RATE,
    REAL,
    SIZE,
    TEACHES,
    UNTRAINED,
    Arm,
    Student,
    student,
)

KEPT = ROOT / "docs" / "assets" / "relations.json"
PLOT = KEPT.with_suffix(".svg")
# Student's 97.5% point for so many seeds.
T = float(student_t.ppf(0.975, POOLS - 1))
# Of a figure that is kept.
DIGITS = 4

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
        f"{DATA.name}; public: {PUBLIC.name}; synthetic: of generators with the quickstart's "
        f"settings, drawn from {POOL:,} of each, resampled in {CLUSTERS} clusters with noise "
        f"{SIGMA}. Teacher: the same model under a public system prompt that the student never "
        f"sees, the best of {ANSWERS} answers of at most {NEW_TOKENS} tokens by `{TEACHES}`. NLL: "
        f"of the teacher's answers to {HELD_OUT} held-out private questions, nats a token, mean "
        f"(least to greatest); win rate: against the untrained model on {JUDGED} of them, by "
        f"`{JUDGES}`, with Wilson's 95% interval. `make bench-utility`.",
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
            for epsilon in EPSILONS
        )
        + ".",
        "",
        f"![Held-out NLL by what was learnt from](assets/{PLOT.name})",
        "",
    ]
    if high < 0:
        lines.append("Public instructions teach more than real ones here: no share is stated.")
    elif low <= 0:
        lines.append("Public and real are not apart outside their interval: no share is stated.")
    return "\n".join(lines)


def _told(middle: float, low: float, high: float) -> str:
    return f"{middle:.4f} ({low:.4f} to {high:.4f})"


def known() -> dict[tuple[Arm, int], Student]:
    """What was found so far, by arm and seed."""
    if not KEPT.exists():
        return {}
    return {
        (Arm(**row["arm"]), row["seed"]): Student(row["nll"], row["scores"])
        for row in json.loads(KEPT.read_text())
    }


def _keep(students: dict[tuple[Arm, int], Student]) -> None:
    rows = [
        json.dumps({"arm": asdict(arm), "seed": seed, **_rounded(each)})
        for (arm, seed), each in students.items()
    ]
    write_atomic(KEPT, "[\n" + ",\n".join(rows) + "\n]\n")


def _rounded(found: Student) -> dict[str, list[float]]:
    return {
        name: [round(value, DIGITS) for value in values] for name, values in asdict(found).items()
    }


def main(arguments: list[str]) -> int:
    """Trains what is missing, seed by seed; renews the page when all are there."""
    parser = argparse.ArgumentParser(prog="bench.relations", description=__doc__)
    parser.add_argument("--at-once", type=int, default=1, help="trainings side by side")
    at_once = parser.parse_args(arguments).at_once
    students = known()
    began = time.monotonic()
    with workers(at_once) as pool_of:

        def each(tasks: dict[tuple[Arm, int], Callable[[], Any]]) -> None:
            """Side by side; what a task says of a student is kept."""
            waiting = {pool_of.submit(task): of for of, task in tasks.items()}
            for done in as_completed(waiting):
                arm, seed = waiting[done]
                told = ""
                if isinstance(found := done.result(), Student):
                    students[arm, seed] = found
                    _keep(students)
                    told = f": {fmean(found.nll):.4f}"
                seconds = time.monotonic() - began
                print(f"{seed}, {arm.name}{told} ({seconds:.0f} s)", flush=True)

        for seed in range(POOLS):
            # Of one pool learn two: it is there before they begin.
            missing = [arm for arm in ARMS if (arm, seed) not in students]
            each(
                {
                    (Arm("pool", of), seed): partial(pool, seed, POOL, of)
                    for of in EPSILONS
                    if missing
                }
            )
            if (UNTRAINED, 0) not in students:
                each({(UNTRAINED, 0): partial(student, UNTRAINED, 0)})
            each({(arm, seed): partial(student, arm, seed) for arm in missing})
    found = {arm: [students[arm, seed] for seed in range(POOLS)] for arm in ARMS}
    found[UNTRAINED] = [students[UNTRAINED, 0]]
    # Without the untrained model, which lies too far off for the others to be told apart.
    dots(
        PLOT,
        "held-out NLL of each seed's student, nats a token",
        {arm.name: [fmean(each.nll) for each in found[arm]] for arm in ARMS},
    )
    renew(BENCHMARKS, "relations", section(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
