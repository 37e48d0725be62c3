"""`palimpsest plan`: what a training and its histogram would cost, and what would fit. Offline."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import click
from pydantic import ValidationError

from palimpsest.privacy.accountant import AccountantError, epsilon_pld, epsilon_rdp
from palimpsest.privacy.calibration import calibrate_noise, default_plan, worst_case_steps
from palimpsest.privacy.gate import Limit, choose_order, renyi_cost, rho
from palimpsest.privacy.inverse import (
    histogram_noise_that_fits,
    largest_epsilon_that_fits,
    noise_that_fits,
    steps_that_fit,
    times_that_fit,
)
from palimpsest.privacy.mechanisms import (
    MAX_NOISE,
    MIN_NOISE,
    DiscreteGaussian,
    Mechanism,
    PoissonSubsampledGaussian,
)

from .numbers import WholeNumber, plain_decimal
from .output import output_option, written
from .training import training_options


@dataclass(frozen=True)
class Question:
    """What the options ask. Exactly one of epsilon and noise_multiplier is given."""

    records: int
    batch_size: int
    steps: int
    delta: Decimal
    epsilon: Decimal | None
    noise_multiplier: Decimal | None
    restarts: int
    checkpoint_interval: int
    histogram_noise_multiplier: Decimal | None
    limit: Decimal | None
    spent_share: Decimal = Decimal(0)


def answer(question: Question) -> dict[str, Any]:
    """The figures. Raises ValueError naming the option that is out of bounds."""
    steps = worst_case_steps(question.steps, question.restarts, question.checkpoint_interval)
    noise = (
        calibrate_noise(
            question.epsilon, question.delta, question.records, question.batch_size, steps
        )
        if question.epsilon is not None
        else f"{question.noise_multiplier:f}"
    )
    training = PoissonSubsampledGaussian.model_validate(
        {
            "batch": question.batch_size,
            "records": question.records,
            "noiseMultiplier": noise,
            "steps": steps,
        }
    )
    mechanisms: list[Mechanism] = [training]
    if question.histogram_noise_multiplier is not None:
        histogram = f"{question.histogram_noise_multiplier:f}"
        mechanisms.append(DiscreteGaussian.model_validate({"noiseMultiplier": histogram}))
    gate: dict[str, Any] = {}
    if question.limit is not None:
        limit = Limit(question.limit, question.delta)
        gate = _gate(limit, training, mechanisms, question.spent_share)
    delta = float(question.delta)
    epsilon, order = epsilon_rdp(mechanisms, delta)
    figures: dict[str, Any] = {
        "records": question.records,
        "batchSize": question.batch_size,
        "samplingRate": training.rate,
        "steps": question.steps,
        "worstCaseSteps": steps,
        "delta": delta,
        "noiseMultiplier": float(noise),
        "epsilonRDP": epsilon,
        "orderRDP": order,
        "epsilonPLD": _pld(mechanisms, delta),
    }
    if question.histogram_noise_multiplier is not None:
        figures["histogramNoiseMultiplier"] = float(question.histogram_noise_multiplier)
    return figures | gate


def _pld(mechanisms: list[Mechanism], delta: float) -> float | None:
    """None where the second accountant is not installed or cannot hold the distribution."""
    try:
        return epsilon_pld(mechanisms, delta)
    except AccountantError as error:
        click.echo(f"epsilonPLD left out: {error}", err=True)
        return None


def _gate(
    limit: Limit,
    training: PoissonSubsampledGaussian,
    mechanisms: list[Mechanism],
    spent: Decimal,
) -> dict[str, Any]:
    """Shares of a budget opened with the default plan, and of one whose plan is just this.

    What fits is told for the first, of what `spent` leaves of it.
    """
    order = choose_order(default_plan(limit, training.records), limit)
    own_order = choose_order(mechanisms, limit)
    shares = _shares(limit, order, mechanisms)
    units = rho(limit.epsilon, limit.delta, order)
    left = int(units * (1 - spent))
    cost = sum(renyi_cost(mechanism, order) for mechanism in mechanisms)
    size = training.records, training.batch
    figures: dict[str, Any] = {
        "limit": float(limit.epsilon),
        "gateOrder": order,
        "gateShare": sum(shares),
        "plannedGateOrder": own_order,
        "plannedGateShare": sum(_shares(limit, own_order, mechanisms)),
    }
    if len(shares) > 1:
        figures |= {"trainingShare": shares[0], "histogramShare": shares[1]}
    return figures | {
        "leftShare": left / units,
        "fits": cost <= left,
        "timesThatFit": times_that_fit(left, cost),
        "largestEpsilonThatFits": _number(
            largest_epsilon_that_fits(left, order, limit.delta, *size, training.steps)
        ),
        "stepsThatFit": steps_that_fit(left, order, training.noiseMultiplier, *size),
        "leastNoiseThatFits": _number(noise_that_fits(left, order, *size, training.steps)),
        "leastHistogramNoiseThatFits": _number(histogram_noise_that_fits(left, order)),
    }


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)


def _shares(limit: Limit, order: int, mechanisms: list[Mechanism]) -> list[float]:
    units = rho(limit.epsilon, limit.delta, order)
    return [renyi_cost(mechanism, order) / units for mechanism in mechanisms]


_NOISE = plain_decimal(least=MIN_NOISE, most=MAX_NOISE)


@click.command(
    epilog="Example: palimpsest plan --records 180000 --batch-size 4096 --steps 440 --epsilon 4 "
    "--delta 1e-6 --limit 8 --histogram-noise-multiplier 10"
)
@training_options
@click.option(
    "--epsilon",
    type=plain_decimal(),
    metavar="DECIMAL",
    help="Calibrate the noise to this epsilon, by Rényi accounting.",
)
@click.option(
    "--noise-multiplier", type=_NOISE, metavar="DECIMAL", help="Take this noise in its place."
)
@click.option(
    "--delta",
    type=plain_decimal(below=Decimal(1)),
    metavar="DECIMAL",
    required=True,
    help="Delta that every epsilon is stated at, such as 1e-6.",
)
@click.option(
    "--restarts",
    type=WholeNumber(0, 100),
    default=0,
    show_default=True,
    help="Restarts to pay for in advance: each may repeat a checkpoint interval.",
)
@click.option(
    "--checkpoint-interval",
    type=WholeNumber(1),
    default=8,
    show_default=True,
    help="Steps that one restart may repeat.",
)
@click.option(
    "--histogram-noise-multiplier",
    type=_NOISE,
    metavar="DECIMAL",
    help="Add a resampling histogram with this noise.",
)
@click.option(
    "--limit",
    type=plain_decimal(),
    metavar="DECIMAL",
    help="Epsilon of a whole budget at this delta: which share this takes, and what fits.",
)
@click.option(
    "--spent-share",
    type=plain_decimal(most=Decimal(1)),
    metavar="DECIMAL",
    help="With --limit: the share that is committed or reserved already, such as 0.23.",
)
@output_option
def plan(output: str, **options: Any) -> None:
    """What a training would cost, offline: noise, epsilon by two accountants, share of a budget.

    Everything is priced at its worst case: steps + restarts * checkpoint interval.
    """
    if options["spent_share"] is None:
        options["spent_share"] = Decimal(0)
    elif options["limit"] is None:
        raise click.UsageError("--spent-share goes with --limit")
    question = Question(**options)
    if (question.epsilon is None) == (question.noise_multiplier is None):
        raise click.UsageError("give one of --epsilon and --noise-multiplier")
    try:
        figures = answer(question)
    except ValidationError as error:
        what = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'mechanism'}: {each['msg']}"
            for each in error.errors()
        )
        raise click.UsageError(what) from error
    except ValueError as error:
        raise click.UsageError(f"--{error}") from error
    click.echo(_text(figures) if output == "text" else written(figures, output))


def _text(figures: dict[str, Any]) -> str:
    width = max(map(len, figures))
    lines = [f"{name:<{width}}  {_shown(value)}" for name, value in figures.items()]
    return "\n".join([*lines, "", *_words(figures)])


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, int | float) else "unknown"


def _words(figures: dict[str, Any]) -> list[str]:
    """The figures in sentences."""
    rdp, pld = figures["epsilonRDP"], figures["epsilonPLD"]
    tight = "" if pld is None else f", and {pld:.3f} by privacy loss distributions"
    lines = [
        f"With noise {figures['noiseMultiplier']:g} this is ({rdp:.3f}, {figures['delta']:g})-DP "
        f"by Rényi accounting{tight}."
    ]
    if "limit" not in figures:
        return lines
    lines.append(
        f"Of a budget ({figures['limit']:g}, {figures['delta']:g}) opened with the default plan "
        f"(order {figures['gateOrder']}) it takes {figures['gateShare']:.1%}; of one planned for "
        f"just this (order {figures['plannedGateOrder']}) {figures['plannedGateShare']:.1%}."
    )
    times = figures["timesThatFit"]
    how = f"It fits {times} time{'s' * (times != 1)}" if times else "It does not fit"
    lines.append(f"{how} into the {figures['leftShare']:.1%} that is left.")
    most = figures["largestEpsilonThatFits"]
    steps = figures["worstCaseSteps"]
    lines.append(
        f"What fits there, of trainings with this batch size: epsilon up to {most:g} at {steps} "
        f"steps (noise at least {figures['leastNoiseThatFits']:g}), or at this noise "
        f"{figures['stepsThatFit']} steps."
        if most is not None
        else f"No training of {steps} steps of this batch size fits there."
    )
    least = figures["leastHistogramNoiseThatFits"]
    if least is not None:
        lines.append(f"A histogram fits there with noise {least:g} or more.")
    return lines
