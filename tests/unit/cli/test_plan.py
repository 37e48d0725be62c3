"""`palimpsest plan`, with the figures that its users check it by."""

import json
from functools import cache
from typing import Any

import pytest
from click.testing import CliRunner
from palimpsest.cli.main import commands

SIZE = ["--records", "180000", "--batch-size", "4096", "--steps", "440"]
MANY = "9" * 4_000


@cache
def plan(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(commands, ["plan", *SIZE, *arguments, "-o", "json"])
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
    assert figures["epsilonPLD"] < figures["epsilonRDP"]
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
        (["--epsilon", "3", "--delta", "1e-6", "--spent-share", "0.5"], "--limit"),
        (["--epsilon", "3", "--delta", "1e-6", "--limit", "8", "--spent-share", "2"], "at most 1"),
        (["--epsilon", "9" * 10_000, "--delta", "1e-6"], "--epsilon"),
        (["--epsilon", "3", "--delta", "1e-6", "--steps", "9" * 10_000], "--steps"),
        (["--epsilon", "3", "--delta", "1e-6", "--records", "1_000_000"], "'--records'"),
        (["--epsilon", "3", "--delta", "1e-6", "--records", "١٨٠٠٠٠"], "'--records'"),
        (["--epsilon", "3", "--delta", "1e-6", "--batch-size", "-4096"], "'--batch-size'"),
        (["--epsilon", "3", "--delta", "1e-6", "--steps", ""], "'--steps'"),
        (
            ["--epsilon", "3", "--delta", "1e-6", "--restarts=9", f"--checkpoint-interval={MANY}"],
            "--steps",
        ),
        (
            [
                "--noise-multiplier=1",
                "--delta=1e-6",
                "--restarts=9",
                f"--checkpoint-interval={MANY}",
            ],
            "steps",
        ),
        (["--delta", "1e-6"], "give one of --epsilon and --noise-multiplier"),
        (
            ["--epsilon", "3", "--noise-multiplier", "1", "--delta", "1e-6"],
            "give one of --epsilon and --noise-multiplier",
        ),
    ],
)
def test_wrong_options_are_named_in_one_line(arguments: list[str], named: str) -> None:
    done = CliRunner().invoke(commands, ["plan", *SIZE, *arguments])
    assert done.exit_code == 2
    last = done.output.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert named in last
    assert "Traceback" not in done.output


def test_what_fits_is_granted_and_no_more_is() -> None:
    asked = ("--delta", "1e-6", "--limit", "8", "--spent-share", "0.9")
    figures = plan("--epsilon", "4", *asked)
    assert (figures["fits"], figures["timesThatFit"]) == (False, 0)
    assert figures["leftShare"] == pytest.approx(0.1)
    most = figures["largestEpsilonThatFits"]
    assert plan("--epsilon", f"{most:.2f}", *asked)["fits"]
    assert not plan("--epsilon", f"{most + 0.01:.2f}", *asked)["fits"]
    histogram = figures["leastHistogramNoiseThatFits"]
    assert histogram == pytest.approx((4 / (2 * 0.1 * 4.14461)) ** 0.5, rel=1e-4)


def test_nothing_left_fits_nothing() -> None:
    figures = plan("--epsilon", "4", "--delta", "1e-6", "--limit", "8", "--spent-share", "1")
    names = ("largestEpsilonThatFits", "leastNoiseThatFits", "leastHistogramNoiseThatFits")
    assert [figures[name] for name in names] == [None, None, None]
    assert (figures["fits"], figures["stepsThatFit"]) == (False, 0)


def test_the_text_holds_the_same_figures_and_says_them_in_words() -> None:
    asked = ["--epsilon", "3", "--delta", "5e-7", "--limit", "8"]
    done = CliRunner().invoke(commands, ["plan", *SIZE, *asked])
    figures = plan(*asked)
    table, words = done.stdout.split("\n\n")
    shown = dict(line.split() for line in table.splitlines())
    assert set(shown) == set(figures)
    assert float(shown["noiseMultiplier"]) == pytest.approx(figures["noiseMultiplier"])
    assert f"order {figures['gateOrder']}" in words
    assert f"epsilon up to {figures['largestEpsilonThatFits']:g} at 440 steps" in words
    assert f"It fits {figures['timesThatFit']} times" in words
