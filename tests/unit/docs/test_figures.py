"""The figures of the documentation are computed again."""

from __future__ import annotations

import shlex
from decimal import Decimal
from math import exp, log

import pytest
from click.testing import CliRunner
from palimpsest.cli.main import commands
from palimpsest.privacy.calibration import calibrate_noise, default_plan
from palimpsest.privacy.gate import Limit, choose_order, renyi_cost, rho
from palimpsest.privacy.inverse import largest_epsilon_that_fits, times_that_fit
from palimpsest.privacy.mechanisms import Mechanism
from palimpsest.privacy.mechanisms import PoissonSubsampledGaussian as Training
from unit.docs.meaning import most_detected, of_a_group, posterior
from unit.docs.pages import DOCS, PAGES, blocks

# Words and rows of tables, wherever their lines break.
EPSILON, BUDGET = (
    " ".join((DOCS / "concepts" / page).read_text().split()) for page in ("epsilon.md", "budget.md")
)
EPSILONS = (1, 3, 8)
DELTA = 1e-6
# Records, batch, steps and delta of the table of shares; the last limit's column counts, too.
SIZE = (180_000, 4096, 440, "1e-6")
LIMITS = [Limit(Decimal(epsilon), Decimal("1e-6")) for epsilon in ("4", "8")]


def run(*arguments: str) -> str:
    done = CliRunner().invoke(commands, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def trained(epsilon: str, records: int, batch: int, steps: int, delta: str) -> Training:
    noise = calibrate_noise(epsilon, delta, records, batch, steps)
    return Training(batch=batch, records=records, noiseMultiplier=noise, steps=steps)


def opened(limit: Limit, plan: list[Mechanism]) -> tuple[int, int]:
    """The order of a budget opened for a plan, and what the limit allows there."""
    order = choose_order(plan, limit)
    return order, rho(limit.epsilon, limit.delta, order)


def row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


@pytest.mark.parametrize(("prior", "told"), [(0.0001, "0.01%"), (0.01, "1%"), (0.5, "50%")])
def test_what_a_belief_becomes(prior: float, told: str) -> None:
    beliefs = (f"{posterior(prior, epsilon):.2%}" for epsilon in EPSILONS)
    assert row(f"a belief of {told} becomes at most", *beliefs) in EPSILON


@pytest.mark.parametrize(("false_alarms", "told"), [(0.001, "0.1%"), (0.01, "1%"), (0.1, "10%")])
def test_what_a_test_detects(false_alarms: float, told: str) -> None:
    rates = (f"{most_detected(false_alarms, epsilon, DELTA):.2%}" for epsilon in EPSILONS)
    assert row(f"detected at most, at {told} false alarms", *rates) in EPSILON


def test_by_how_much_odds_grow() -> None:
    factors = (f"{exp(epsilon):,.1f}" for epsilon in EPSILONS)
    assert row("the odds grow at most by the factor e^epsilon", *factors) in EPSILON


@pytest.mark.parametrize("records", [1, 2, 3, 5])
def test_what_holds_for_many_records_of_one_person(records: int) -> None:
    groups = (of_a_group(records, epsilon, DELTA) for epsilon in (1, 3))
    assert row(str(records), *(f"({group[0]}, {group[1]:.2g})" for group in groups)) in EPSILON


def test_randomised_response_reaches_the_bounds() -> None:
    """Told the truth with probability 3/4: (ln 3, 0)-DP, and no test does better on any program."""
    assert most_detected(1 / 4, log(3), 0) == pytest.approx(3 / 4)
    assert posterior(1 / 2, log(3)) == pytest.approx(3 / 4)
    assert most_detected(0, 1, 1e-3) == pytest.approx(1e-3)
    # The mechanism that says all with probability delta, on two records: at most twice that.
    assert of_a_group(2, 0, 1e-3) == pytest.approx((0, 2e-3))


@pytest.mark.parametrize("epsilon", ["1", "3", "4", "8"])
def test_shares_of_trainings(epsilon: str) -> None:
    training = trained(epsilon, *SIZE)
    shares, fit = [], 0
    for limit in LIMITS:
        order, allowed = opened(limit, default_plan(limit, training.records))
        cost = renyi_cost(training, order)
        shares.append(cost / allowed)
        fit = times_that_fit(allowed, cost)
    told = (f"{share:.1%}" if share < 2 else "above 200%" for share in shares)
    assert row(f"epsilon {epsilon}", training.noiseMultiplier, *told, str(fit)) in BUDGET


def test_what_the_pages_say_of_shares() -> None:
    records, batch, steps, delta = SIZE
    order, allowed = opened(LIMITS[-1], default_plan(LIMITS[-1], records))
    most = largest_epsilon_that_fits(allowed, order, Decimal(delta), records, batch, steps)
    assert most is not None
    assert f"what does fit: here epsilon {float(most):g}." in BUDGET
    limit = Limit(Decimal("3.4"), Decimal("1e-5"))
    quickstart = trained("3", 15_000, 256, 24, "1e-5")
    order, allowed = opened(limit, default_plan(limit, quickstart.records))
    assert renyi_cost(quickstart, order) > allowed
    order, allowed = opened(limit, [quickstart])
    assert f"{renyi_cost(quickstart, order) / allowed:.0%} of one planned for just it" in BUDGET


def test_what_commands_print_is_what_they_print() -> None:
    """Of a block that begins with a command each further line is a line of its output."""
    shown = [block for page in PAGES for block in blocks(page) if block.language == "console"]
    assert len(shown) > 2
    for block in shown:
        command, *told = block.text.splitlines()
        program, *arguments = shlex.split(command.removeprefix("$ "))
        assert program == "palimpsest"
        printed = run(*arguments).splitlines()
        assert told, command
        assert [line for line in told if line not in printed] == [], command
