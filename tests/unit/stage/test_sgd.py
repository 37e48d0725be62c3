"""Clipping, noise and the step."""

import math

import pytest
import torch
from palimpsest_stage.dp.sgd import clipped_sum, noisy_mean


def test_each_row_is_clipped_before_the_sum() -> None:
    # The mean of these two is short: clipping it instead of them would change nothing.
    rows = torch.tensor([[100.0, 1.0], [-100.0, 1.0]])
    total = clipped_sum(rows, 1.0)
    assert float(total.norm()) < 0.03
    assert float(clipped_sum(rows[:1], 1.0).norm()) == pytest.approx(1.0, abs=5e-6)


def test_no_record_moves_the_sum_by_more_than_the_clipping_norm() -> None:
    rows = torch.randn(50, 1000, generator=torch.Generator().manual_seed(0)) * 10
    for row in rows:
        assert float(clipped_sum(row[None], 0.7).norm()) <= 0.7
    with_all, without = clipped_sum(rows, 0.7), clipped_sum(rows[1:], 0.7)
    assert float((with_all - without).norm()) <= 0.7


def test_who_else_is_in_the_sum_moves_no_record_beyond_its_norm() -> None:
    # Where sums are made in float32, large company rounds a small record's part away or up.
    generator = torch.Generator().manual_seed(1)
    company = torch.randn(4000, 300, generator=generator) + 0.5
    record = torch.full((1, 300), 1e-3)
    part = clipped_sum(torch.cat([company, record]), 1.0) - clipped_sum(company, 1.0)
    assert float((part - record[0]).norm() / record.norm()) < 1e-9


@pytest.mark.parametrize("width", [1, 127, 128, 129, 1000])
def test_norms_are_taken_of_every_entry(width: int) -> None:
    for place in {0, width // 2, width - 1}:
        row = torch.zeros(1, width)
        row[0, place] = 50.0
        assert float(clipped_sum(row, 1.0).norm()) == pytest.approx(1.0, abs=5e-6)


def test_short_rows_are_left_alone() -> None:
    rows = torch.tensor([[0.3, 0.4], [0.0, 0.0]])
    assert clipped_sum(rows, 1.0).tolist() == pytest.approx([0.3, 0.4])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_contributes_zero(bad: float) -> None:
    rows = torch.tensor([[bad, 1.0], [0.3, 0.4]])
    assert clipped_sum(rows, 1.0).tolist() == pytest.approx([0.3, 0.4])


def test_noise_is_scaled_by_sigma_and_norm_and_divided_by_the_expected_batch() -> None:
    normals = torch.randn(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noise = noisy_mean(torch.zeros(1000, dtype=torch.float64), normals, 2.0, 0.5, 256)
    assert torch.allclose(noise, normals * (2.0 * 0.5 / 256), rtol=1e-12)
    mean = noisy_mean(torch.full((3,), 512.0, dtype=torch.float64), torch.zeros(3), 2.0, 0.5, 256)
    assert mean.tolist() == [2.0, 2.0, 2.0]
