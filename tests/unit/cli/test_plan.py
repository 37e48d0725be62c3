"""`palimpsest plan`, with the figures that its users check it by."""

import json
from functools import cache
from typing import Any

import pytest
from click.testing import CliRunner
from palimpsest.cli.main import main

SIZE = ["--records", "180000", "--batch-size", "4096", "--steps", "440"]


@cache
def plan(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(main, ["plan", *SIZE, *arguments, "-o", "json"])
    assert done.exit_code == 0, done.output
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


@pytest.mark.parametrize(
    ("noise", "histogram", "pld", "rdp"),
    [
        ("1.12254", None, 2.860, 3.161),
        ("1.12254", "10", 2.897, 3.198),
        ("0.80752", None, 5.940, 6.685),
        ("0.80752", "10", 5.959, 6.705),
    ],
)
def test_two_accountants_say_what_is_spent(
    noise: str, histogram: str | None, pld: float, rdp: float
) -> None:
    more = ["--histogram-noise-multiplier", histogram] if histogram else []
    figures = plan("--noise-multiplier", noise, "--delta", "5e-7", *more)
    assert figures["epsilonPLD"] == pytest.approx(pld, abs=1e-3)
    # dp-accounting's series overstates fractional orders by up to 0.02%; the quadrature does not.
    assert figures["epsilonRDP"] == pytest.approx(rdp, rel=3e-4)
    assert figures["samplingRate"] == pytest.approx(4096 / 180_000)


def test_noise_is_calibrated_just_below_the_epsilon() -> None:
    figures = plan("--epsilon", "2.86", "--delta", "5e-7")
    assert 2.86 * 0.995 <= figures["epsilonRDP"] <= 2.86
    assert figures["noiseMultiplier"] > 1.12254


def test_restarts_are_paid_for() -> None:
    calm = plan("--epsilon", "3", "--delta", "5e-7")
    restless = plan(
        *("--epsilon", "3", "--delta", "5e-7", "--restarts", "2", "--checkpoint-interval", "50")
    )
    assert (calm["worstCaseSteps"], restless["worstCaseSteps"]) == (440, 540)
    assert restless["noiseMultiplier"] > calm["noiseMultiplier"]


def test_a_limit_adds_order_and_share() -> None:
    figures = plan(
        *("--epsilon", "4", "--delta", "1e-6", "--limit", "8"),
        *("--histogram-noise-multiplier", "10"),
    )
    assert figures["gateOrder"] == 4
    assert figures["trainingShare"] == pytest.approx(0.226, abs=1e-3)
    assert figures["histogramShare"] == pytest.approx(0.005, abs=5e-4)
    assert figures["gateShare"] == pytest.approx(
        figures["trainingShare"] + figures["histogramShare"]
    )
    assert figures["plannedGateShare"] <= figures["gateShare"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--epsilon", "NaN", "--delta", "1e-6"], "--epsilon"),
        (["--epsilon", "-1", "--delta", "1e-6"], "--epsilon"),
        (["--epsilon", "1e400", "--delta", "1e-6"], "--epsilon"),
        (["--epsilon", "٣", "--delta", "1e-6"], "--epsilon"),
        (["--epsilon", "0", "--delta", "1e-6"], "--epsilon"),
        (["--epsilon", "0.1", "--delta", "1e-6"], "--epsilon"),
        (["--epsilon", "3", "--delta", "1"], "--delta"),
        (["--epsilon", "3", "--delta", ""], "--delta"),
        (["--noise-multiplier", "0.01", "--delta", "1e-6"], "--noise-multiplier"),
        (["--epsilon", "3", "--delta", "1e-6", "--batch-size", "180001"], "--batch-size"),
        (["--epsilon", "3", "--delta", "1e-6", "--restarts", "-1"], "--restarts"),
        (["--epsilon", "3", "--delta", "1e-6", "--limit", "0.001"], "--limit"),
        (["--delta", "1e-6"], "give one of --epsilon and --noise-multiplier"),
        (
            ["--epsilon", "3", "--noise-multiplier", "1", "--delta", "1e-6"],
            "give one of --epsilon and --noise-multiplier",
        ),
    ],
)
def test_wrong_options_are_named_in_one_line(arguments: list[str], named: str) -> None:
    done = CliRunner().invoke(main, ["plan", *SIZE, *arguments])
    assert done.exit_code == 2
    last = done.output.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert named in last
    assert "Traceback" not in done.output


def test_the_text_holds_the_same_figures() -> None:
    done = CliRunner().invoke(main, ["plan", *SIZE, "--epsilon", "3", "--delta", "5e-7"])
    figures = plan("--epsilon", "3", "--delta", "5e-7")
    shown = dict(line.split() for line in done.stdout.splitlines())
    assert set(shown) == set(figures)
    assert float(shown["noiseMultiplier"]) == pytest.approx(figures["noiseMultiplier"])
