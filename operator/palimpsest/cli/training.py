"""The options by which a command is told of a training."""

import functools
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import click

from palimpsest.api.generator import steps_of_epochs
from palimpsest.privacy.mechanisms import MAX_RECORDS, MAX_STEPS

from .numbers import WholeNumber, plain_decimal

Command = Callable[..., None]

_OPTIONS = (
    click.option(
        "--records",
        type=WholeNumber(1, MAX_RECORDS),
        required=True,
        help="Declared number of private records.",
    ),
    click.option(
        "--batch-size",
        type=WholeNumber(1),
        required=True,
        help="Expected batch size; over --records it is the sampling rate.",
    ),
    click.option("--steps", type=WholeNumber(1, MAX_STEPS), help="Steps of the training."),
    click.option(
        "--epochs",
        type=plain_decimal(),
        metavar="DECIMAL",
        help="In place of --steps: epochs * records / batch size, rounded up.",
    ),
)


def training_options(command: Command) -> Command:
    """Give `command` the options, and itself `records`, `batch_size` and `steps`.

    Raises click.UsageError where they are no training.
    """

    @functools.wraps(command)
    def told(
        records: int,
        batch_size: int,
        steps: int | None,
        epochs: Decimal | None,
        **others: Any,
    ) -> None:
        if batch_size > records:
            raise click.BadParameter("must not exceed --records", param_hint="--batch-size")
        command(
            records=records,
            batch_size=batch_size,
            steps=_steps(records, batch_size, steps, epochs),
            **others,
        )

    for option in reversed(_OPTIONS):
        told = option(told)
    return told


def _steps(records: int, batch_size: int, steps: int | None, epochs: Decimal | None) -> int:
    if steps is not None and epochs is None:
        return steps
    if epochs is None or steps is not None:
        raise click.UsageError("give one of --steps and --epochs")
    found = steps_of_epochs(epochs, records, batch_size)
    if found > MAX_STEPS:
        raise click.BadParameter(
            f"{epochs:f} epochs are {found:,} steps, more than {MAX_STEPS:,}", param_hint="--epochs"
        )
    return found
