"""python -m bench.utility: held-out likelihood of generators by epsilon, into docs/benchmarks.md.

Every training is kept in build/bench/utility.json as soon as it is done; those that are there are
not made again. The learning rate is the best at epsilon 3 on public questions; the rest is the
quickstart's, but for the length. On a GPU where there is one, and then several at once.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import mean

import torch
from cluster import parts
from demo.checker.models import add_adapter, language_model, mean_nll
from palimpsest.api.generator import Lora
from palimpsest.api.task import TrainParameters
from palimpsest.privacy.calibration import calibrate_noise
from palimpsest_stage import lora
from palimpsest_stage.dp.noise import SecureGenerator
from palimpsest_stage.models import best_device, load_causal, suit_length
from palimpsest_stage.text import encode, layout
from palimpsest_stage.train import Trainer
from torch import Tensor

from bench.page import BENCHMARKS, ROOT, renew
from bench.private_sets import PRIVATE, PUBLIC, PrivateSet
from bench.side_by_side import workers

KEPT = ROOT / "build" / "bench" / "utility.json"
SETS = {each.name: each for each in (PUBLIC, *PRIVATE)}
WITHOUT_NOISE, UNTRAINED = "infinity", "untrained"
EPSILONS = ("1", "3", "8", WITHOUT_NOISE)
SEEDS = 3
DELTA = "1e-6"
BATCH, STEPS, MAX_LENGTH, RANK = 256, 24, 32, 4
# Rows a pass; of no consequence beyond rounding.
MICRO_BATCH = 128 if torch.cuda.is_available() else 32
RATES = ("0.001", "0.003", "0.01", "0.03")


@dataclass(frozen=True)
class Cell:
    """One training, or none."""

    data: str
    epsilon: str
    learning_rate: str
    seed: int


class Noiseless(Trainer):
    """Clipped all the same."""

    def noisy_mean(self, total: Tensor) -> Tensor:
        return total / self.parameters.expected_batch_size


def cells(learning_rate: str) -> list[Cell]:
    """Of the table; one seed of everything before the next."""
    return [
        Cell(data.name, epsilon, learning_rate, seed)
        for seed in range(SEEDS)
        for epsilon in EPSILONS
        for data in PRIVATE
    ] + [Cell(data.name, UNTRAINED, "0", 0) for data in PRIVATE]


def choices() -> list[Cell]:
    """Of the choice of the learning rate."""
    return [Cell(PUBLIC.name, "3", rate, seed) for seed in range(SEEDS) for rate in RATES]


def chosen(found: dict[Cell, float]) -> str:
    """The learning rate whose trainings on public questions did best in the mean."""
    return min(
        RATES,
        key=lambda rate: mean(found[each] for each in choices() if each.learning_rate == rate),
    )


def measured(cell: Cell) -> float:
    """Held-out nats a token."""
    data = SETS[cell.data]
    _, held_out = _texts(data.name)
    folder = parts.smollm2().folder
    model, tokenizer = language_model(folder)
    if cell.epsilon != UNTRAINED:
        with tempfile.TemporaryDirectory() as scratch:
            made = Path(scratch)
            trained(data, cell).save(made)
            adapter, config = ((made / name).read_bytes() for name in (lora.WEIGHTS, lora.CONFIG))
            add_adapter(model, adapter, config, made / "again")
    return mean_nll(model.to(best_device()), tokenizer, data.prompt, held_out)


def trained(data: PrivateSet, cell: Cell) -> lora.Adapters:
    """The training stage's loop, without its journal."""
    private, _ = _texts(data.name)
    parameters = _parameters(data, cell)
    model, tokenizer = load_causal(parts.smollm2().folder, parameters.precision)
    suit_length(model, parameters.max_length)
    shape = layout(tokenizer, parameters.prompt, parameters.max_length)
    torch.manual_seed(cell.seed)
    adapters = lora.Adapters(model, parameters.lora)
    loop = Noiseless if cell.epsilon == WITHOUT_NOISE else Trainer
    trainer = loop(model, adapters, shape, parameters, SecureGenerator())
    examples = [encode(tokenizer, shape, text) for text in private]
    state = trainer.initial()
    while state.steps < parameters.steps:
        state, _ = trainer.step(state, examples)
    adapters.write(state.weights)
    return adapters


def _parameters(data: PrivateSet, cell: Cell) -> TrainParameters:
    noise = "1"
    if cell.epsilon != WITHOUT_NOISE:
        noise = calibrate_noise(cell.epsilon, DELTA, data.records, BATCH, STEPS)
    return TrainParameters(
        prompt=data.prompt,
        lora=Lora(rank=RANK, alpha=2 * RANK),
        records=data.records,
        expected_batch_size=BATCH,
        micro_batch_size=MICRO_BATCH,
        steps=STEPS,
        block_steps=STEPS,
        restarts=0,
        learning_rate=cell.learning_rate,
        clipping_norm="1",
        noise_multiplier=noise,
        max_length=MAX_LENGTH,
        precision="bfloat16",
    )


@cache
def _texts(name: str) -> tuple[list[str], list[str]]:
    return SETS[name].texts()


def known() -> dict[Cell, float]:
    """What was measured so far."""
    if not KEPT.exists():
        return {}
    return {Cell(**row["cell"]): row["nll"] for row in json.loads(KEPT.read_text())}


def _keep(found: dict[Cell, float]) -> None:
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"cell": asdict(cell), "nll": nll} for cell, nll in found.items()]
    KEPT.write_text(json.dumps(rows, indent=1) + "\n")


def section(found: dict[Cell, float], learning_rate: str, device: str) -> str:
    """In Markdown: means over the seeds, and from the least to the greatest."""
    names = (UNTRAINED, *EPSILONS)
    lines = [
        "## Utility",
        "",
        f"Held-out negative log-likelihood, nats a token, of SmolLM2-135M-Instruct: {STEPS} steps "
        f"of DP-SGD at an expected batch size of {BATCH}, LoRA rank {RANK}, AdamW at "
        f"{learning_rate}, clipping norm 1, delta {DELTA}; mean (least to greatest) of {SEEDS} "
        f"seeds of initialisation, each with noise of its own. `infinity` clips and adds no noise. "
        f"The learning rate was chosen from {', '.join(RATES)} at epsilon 3 on {PUBLIC.name} "
        f"alone; the rest is the quickstart's, but for {MAX_LENGTH} tokens. `make utility`, on "
        f"{device}.",
        "",
        f"| private set | records | {' | '.join(names)} | more epsilon is better |",
        "|---" * (len(names) + 3) + "|",
    ]
    for data in PRIVATE:
        figures = {name: _of(found, data.name, name) for name in names}
        told = " | ".join(_told(figures[name]) for name in names)
        verdict = "yes" if _ordered([figures[name] for name in names]) else "not outside the bars"
        lines.append(f"| {data.name} | {data.records:,} | {told} | {verdict} |")
    lines += ["", *(f"- **{data.name}**: {data.what}." for data in PRIVATE)]
    return "\n".join(lines)


def _of(found: dict[Cell, float], data: str, epsilon: str) -> list[float]:
    return [nll for cell, nll in found.items() if (cell.data, cell.epsilon) == (data, epsilon)]


def _told(figures: list[float]) -> str:
    if len(figures) == 1:
        return f"{figures[0]:.3f}"
    return f"{mean(figures):.3f} ({min(figures):.3f} to {max(figures):.3f})"


def _ordered(columns: list[list[float]]) -> bool:
    """Every column lies below the one before it, error bars and all."""
    return all(min(left) > max(right) for left, right in pairwise(columns))


def main(arguments: list[str]) -> int:
    """Measures what is missing, the choice first; renews the page when the table is whole."""
    parser = argparse.ArgumentParser(prog="bench.utility", description=__doc__)
    parser.add_argument("--at-once", type=int, default=1, help="trainings side by side")
    at_once = parser.parse_args(arguments).at_once
    found = known()
    _measure(choices(), found, at_once)
    rate = chosen(found)
    wanted = cells(rate)
    _measure(wanted, found, at_once)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "a processor"
    renew(BENCHMARKS, "utility", section({cell: found[cell] for cell in wanted}, rate, device))
    return 0


def _measure(wanted: list[Cell], found: dict[Cell, float], at_once: int) -> None:
    missing = [cell for cell in wanted if cell not in found]
    began = time.monotonic()
    with workers(at_once) as pool:
        waiting = {pool.submit(measured, cell): cell for cell in missing}
        for number, done in enumerate(as_completed(waiting), 1):
            cell = waiting[done]
            found[cell] = done.result()
            _keep(found)
            told = f"{_words(cell)}: {found[cell]:.4f} ({time.monotonic() - began:.0f} s)"
            print(f"{number}/{len(missing)} {told}", flush=True)


def _words(cell: Cell) -> str:
    return ", ".join(f"{name} {value}" for name, value in asdict(cell).items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
