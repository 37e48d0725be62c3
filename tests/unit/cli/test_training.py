"""Options that several commands are told of a training by."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result
from palimpsest.cli.main import commands

COMMANDS = {
    "plan": ["plan", "--noise-multiplier", "1.1"],
    "audit power": ["audit", "power", "--claim", "1"],
}


@pytest.fixture(params=COMMANDS)
def asked(request: pytest.FixtureRequest) -> list[str]:
    return [*COMMANDS[request.param], "--records", "15000", "--delta", "1e-5", "-o", "json"]


def run(arguments: list[str], *more: str) -> Result:
    return CliRunner().invoke(commands, [*arguments, *more])


def test_epochs_stand_for_steps(asked: list[str]) -> None:
    size = ("--batch-size", "256")
    # 3 * 15,000 / 256 = 175.8.
    epochs, steps = (
        json.loads(run(asked, *size, *given).stdout)
        for given in (("--epochs", "3"), ("--steps", "176"))
    )
    assert epochs == steps


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "give one of --steps and --epochs"),
        (["--epochs", "3", "--steps", "176"], "give one of --steps and --epochs"),
        (
            ["--epochs", "200000"],
            "--epochs: 200000 epochs are 11,718,750 steps, more than 10,000,000",
        ),
    ],
)
def test_what_is_no_number_of_steps_is_said(asked: list[str], given: list[str], said: str) -> None:
    answer = run(asked, "--batch-size", "256", *given)
    assert answer.exit_code == 2
    assert said in answer.output


def test_a_batch_beyond_the_records_is_refused(asked: list[str]) -> None:
    answer = run(asked, "--batch-size", "15001", "--steps", "1")
    assert answer.exit_code == 2
    assert "--batch-size: must not exceed --records" in answer.output
