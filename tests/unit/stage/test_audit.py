"""The audit of a training: its parts, and what it says of the right loop and of broken ones."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from palimpsest_stage.audit.canaries import LOUDNESS, Canaries
from palimpsest_stage.audit.scores import Scores, evidence
from palimpsest_stage.dp.noise import SecureGenerator
from palimpsest_stage.dp.sgd import clipped_sum
from palimpsest_stage.errors import ModelUnsuitable
from unit.stage import audited
from unit.stage.audited import BROKEN, RIGHT, Loop

CANARIES = Canaries(count=7, parameters=1000, clipping_norm=0.5, seed=3)
ALL = np.arange(7)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A tiny model gains nothing from threads and waits for them where processors are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rows(step: int, size: int = 100) -> torch.Tensor:
    return torch.cat(list(CANARIES.rows(step, ALL, size)))


def test_canaries_are_loud_orthogonal_and_clipped_to_one_norm() -> None:
    raw = rows(4)
    assert raw.shape == (7, 1000)
    gram = raw.double() @ raw.double().T
    assert torch.allclose(gram.diagonal().sqrt(), torch.full((7,), LOUDNESS * 0.5).double())
    assert (gram - torch.diag(gram.diagonal())).abs().max() == 0
    for number in range(7):
        along = CANARIES.along(4, clipped_sum(raw[number : number + 1], 0.5))
        assert along[number] == pytest.approx(0.5, rel=1e-5)
        assert along.abs().sum() == pytest.approx(0.5, rel=1e-5)


def test_canaries_are_public_and_other_in_each_step() -> None:
    again = Canaries(count=7, parameters=1000, clipping_norm=0.5, seed=3)
    assert torch.equal(torch.cat(list(again.rows(4, ALL, 2))), rows(4))
    assert not torch.equal(rows(5), rows(4))
    other = Canaries(count=7, parameters=1000, clipping_norm=0.5, seed=4)
    assert not torch.equal(torch.cat(list(other.rows(4, ALL, 7))), rows(4))


def test_rows_come_in_micro_batches_and_only_those_chosen() -> None:
    sizes = [len(some) for some in CANARIES.rows(0, np.array([1, 4, 6]), 2)]
    assert sizes == [2, 1]
    assert list(CANARIES.rows(0, np.array([], dtype=np.int64), 2)) == []


def test_too_few_parameters_for_the_canaries_are_refused() -> None:
    with pytest.raises(ModelUnsuitable, match="too few for 63 canaries"):
        Canaries(count=63, parameters=1000, clipping_norm=0.5, seed=3)


def test_coins_are_fair_and_their_own() -> None:
    generator = SecureGenerator()
    one, other = (Scores.toss(10_000, generator).included for _ in range(2))
    # Six standard deviations (false alarms: 2e-9 each).
    assert abs(int(one.sum()) - 5_000) < 6 * 50
    assert abs(int((one == other).sum()) - 5_000) < 6 * 50


def test_only_canaries_that_are_in_are_sampled_and_at_the_records_rate() -> None:
    settings = audited.settings("3")
    one = audited.trainer(settings)
    assert one.observer is not None
    generator = SecureGenerator()
    scores = Scores.toss(audited.CANARIES, generator)
    seen = torch.zeros(audited.CANARIES, dtype=torch.long)
    steps = 400
    for step in range(steps):
        for some in one.observer.rows(scores, step, generator):
            present = some[:, : audited.CANARIES] != 0
            assert bool((present.sum(1) == 1).all())
            seen += present.sum(0)
    assert int(seen[~scores.included].sum()) == 0
    chances = steps * int(scores.included.sum())
    rate = audited.BATCH / audited.RECORDS
    # Six standard errors (false alarms: 2e-9).
    spread = 6 * math.sqrt(chances * rate * (1 - rate))
    assert abs(int(seen.sum()) - chances * rate) < spread


def test_guesses_are_the_highest_and_the_lowest_and_ties_go_by_number() -> None:
    included = torch.tensor([True, False, True, False, True, False])
    scores = Scores(included, torch.tensor([3.0, 3.0, -1.0, -2.0, 0.0, 0.0]).double())
    assert scores.correct(1, 0) == 0  # the later of the two at 3.0 is out
    assert scores.correct(2, 1) == 2
    assert scores.correct(2, 2) == 2
    assert scores.correct(0, 0) == 0
    assert scores.correct(3, 3) == 2


def test_evidence_grows_with_the_component_and_is_a_log_likelihood_ratio() -> None:
    components = torch.linspace(-3, 3, 50).double()
    found = evidence(components, 0.1, 2.0)
    assert bool((found.diff() > 0).all())
    # Spread 1: ln(0.9 + 0.1 e^(y - 1/2)).
    expected = (0.9 + 0.1 * (components - 0.5).exp()).log()
    assert torch.allclose(found, expected)
    assert torch.allclose(evidence(components, 1.0, 2.0), components - 0.5)
    assert bool(evidence(torch.tensor([1e6]).double(), 0.1, 0.5).isfinite().all())


# Claim 3, at confidence 0.95: 99 of the 100 guesses must be right to refute it.
def test_the_right_loop_passes() -> None:
    # It is refuted with probability 0.0036 at most, by the bound itself at another point of this
    # training's privacy curve, (2.3, 5.8e-5). As each guess is right with the posterior chance of
    # a Gaussian's component, 63 are expected (at most 67 in 400 simulations): below 1e-8 by
    # Hoeffding's inequality.
    result = audited.audit(audited.settings("3"))
    assert result.verdict == "Passed"
    assert float(result.bound) < 3 < float(result.largest_provable)


@pytest.mark.parametrize("loop", BROKEN, ids=lambda loop: loop.name)
def test_a_broken_loop_fails_the_gate(loop: Loop) -> None:
    # Misses with probability 2.5e-9: fewer than 99 of the canaries were ever sampled.
    with loop.run():
        result = audited.audit(audited.settings("3"))
    assert result.verdict == "Failed"
    assert float(result.bound) >= 3


def test_reused_noise_shows_in_the_differences_of_iterates() -> None:
    # Six standard deviations below the mean of chi-squared, for 28 pairs: 3e-8 false alarms.
    settings = audited.settings("3")
    fresh = audited.noised_gradients(RIGHT, settings, 8)
    assert audited.shortfall_of_differences(fresh, settings) < 6
    again = audited.noised_gradients(audited.reused_noise(), settings, 8)
    assert audited.shortfall_of_differences(again, settings) > 6
