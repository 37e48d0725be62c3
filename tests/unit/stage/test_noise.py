"""Randomness: distribution, independence, and that no two generators share it.

Every statistical threshold is stated as a number of standard errors; at 5.5 a right generator
fails a test of this file less than once in 10^6 runs (two-sided normal tail 4e-8 a comparison).
"""

import math
import os
import pickle
from fractions import Fraction

import numpy as np
import pytest
from palimpsest_stage.dp.noise import SecureGenerator, discrete_gaussian

ERRORS = 5.5


def test_normals_have_the_moments_and_the_quantiles_of_a_normal() -> None:
    n = 1_000_001
    x = SecureGenerator().normals(n).numpy()
    assert x.shape == (n,)
    assert abs(x.mean()) < ERRORS / math.sqrt(n)
    assert abs((x**2).mean() - 1) < ERRORS * math.sqrt(2 / n)
    assert abs((x**4).mean() - 3) < ERRORS * math.sqrt(96 / n)
    for z in (-3.0, -1.0, 0.0, 0.5, 2.0):
        p = 0.5 * math.erfc(-z / math.sqrt(2))
        assert abs((x < z).mean() - p) < ERRORS * math.sqrt(p * (1 - p) / n)


def test_normals_are_independent_of_one_another() -> None:
    n = 500_000
    x = SecureGenerator().normals(2 * n).numpy()
    # Lag 1 and 2, and the two halves, which Box and Muller make of the same uniforms.
    for a, b in [(x[:-1], x[1:]), (x[:-2], x[2:]), (x[:n], x[n:]), (x[:n] ** 2, x[n:] ** 2)]:
        assert abs(np.corrcoef(a, b)[0, 1]) < ERRORS / math.sqrt(len(a))


def test_two_generators_share_no_noise() -> None:
    a, b = SecureGenerator(), SecureGenerator()
    assert not np.intersect1d(a.words(10_000), b.words(10_000)).size
    assert not np.intersect1d(a.words(10_000), a.words(10_000)).size
    n = 500_000
    assert abs(np.corrcoef(a.normals(n), b.normals(n))[0, 1]) < ERRORS / math.sqrt(n)


def test_a_generator_is_never_used_by_a_process_that_was_forked() -> None:
    generator = SecureGenerator()
    child = os.fork()
    if not child:
        try:
            generator.words(1)
        except RuntimeError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(generator.words(1)) == 1


def test_a_generator_is_never_saved() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(SecureGenerator())


def test_each_record_is_included_at_the_declared_rate_and_independently() -> None:
    generator, records, draws = SecureGenerator(), 40, 20_000
    rate = 7 / 100
    hits = np.zeros((draws, records))
    for draw in range(draws):
        hits[draw, generator.poisson_sample(records, 7, 100)] = 1
    error = math.sqrt(rate * (1 - rate) / draws)
    assert np.abs(hits.mean(0) - rate).max() < ERRORS * error
    pairs = np.asarray(np.corrcoef(hits.T))[np.triu_indices(records, 1)]
    assert np.abs(pairs).max() < ERRORS / math.sqrt(draws)
    sizes = hits.sum(1)
    variance = records * rate * (1 - rate)
    assert abs(sizes.var() - variance) < ERRORS * variance * math.sqrt(2 / draws) * 1.1


def test_the_rate_is_the_declared_one_whatever_the_actual_count() -> None:
    generator = SecureGenerator()
    n = 1_000_000
    rate = 256 / 15_000
    error = math.sqrt(rate * (1 - rate) / n)
    assert abs(len(generator.poisson_sample(n, 256, 15_000)) / n - rate) < ERRORS * error
    assert generator.poisson_sample(0, 256, 15_000).size == 0
    assert generator.poisson_sample(5, 10, 10).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("sigma", [Fraction(1, 2), Fraction(3), Fraction(10)])
def test_discrete_gaussian_has_its_mass_function(sigma: Fraction) -> None:
    n = 4_000
    draws = np.array([discrete_gaussian(sigma) for _ in range(n)])
    reach = int(12 * sigma) + 2
    support = np.arange(-reach, reach + 1)
    mass = np.exp(-(support**2) / (2 * float(sigma) ** 2))
    mass /= mass.sum()
    for z in (-2 * int(sigma) - 1, -1, 0, 1, int(sigma) + 1):
        p = mass[support <= z].sum()
        assert abs((draws <= z).mean() - p) < ERRORS * math.sqrt(p * (1 - p) / n) + 1e-12
    variance = (mass * support**2).sum()
    fourth = (mass * support**4).sum()
    assert abs((draws**2).mean() - variance) < ERRORS * math.sqrt((fourth - variance**2) / n)


def test_discrete_gaussian_needs_a_positive_sigma() -> None:
    with pytest.raises(ValueError, match="positive"):
        discrete_gaussian(Fraction(0))
