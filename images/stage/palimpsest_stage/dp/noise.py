"""Randomness that privacy rests on: a cipher keyed by the operating system, never a seed."""

import os
import secrets
from fractions import Fraction
from math import isqrt
from typing import NoReturn

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

_WORD = 1 << 64


class SecureGenerator:
    """AES-256-CTR keystream under a key of this object's own, which never leaves the process."""

    def __init__(self) -> None:
        cipher = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(os.urandom(16)))
        self._keystream = cipher.encryptor()
        self._process = os.getpid()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a noise generator is never saved: whoever reads it can subtract the noise")

    def words(self, count: int) -> NDArray[np.uint64]:
        """`count` uniform 64-bit words. Raises RuntimeError in a forked process."""
        if os.getpid() != self._process:
            raise RuntimeError("a noise generator is never shared: noise drawn twice cancels out")
        return np.frombuffer(self._keystream.update(bytes(8 * count)), dtype="<u8")

    def normals(self, count: int) -> NDArray[np.float64]:
        """`count` standard normals by Box and Muller (1958) from 53-bit uniforms."""
        pairs = (count + 1) // 2
        words = self.words(2 * pairs) >> np.uint64(11)
        # (0, 1]: the logarithm never meets zero.
        radius = np.sqrt(-2.0 * np.log((words[:pairs] + np.uint64(1)) * 2.0**-53))
        angle = words[pairs:] * (2.0**-53 * 2.0 * np.pi)
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]

    def poisson_sample(self, population: int, expected: int, records: int) -> NDArray[np.int64]:
        """Indices of `population` items, each included independently at rate expected/records.

        The rate is compared as an integer and rounded down, so no item is included more often than
        accounted for. `population` may differ from the declared `records`.
        """
        if expected >= records:
            return np.arange(population, dtype=np.int64)
        threshold = np.uint64(_WORD * expected // records)
        return np.flatnonzero(self.words(population) < threshold)


def discrete_gaussian(sigma: Fraction) -> int:
    """One exact draw with mass proportional to exp(-x^2 / (2 sigma^2)), in integer arithmetic.

    Canonne, Kamath and Steinke (2020), algorithm 3. Raises ValueError unless sigma > 0.
    """
    if sigma <= 0:
        raise ValueError("sigma must be positive")
    variance = sigma * sigma
    scale = isqrt(int(variance)) + 1
    while True:
        candidate = _discrete_laplace(scale)
        excess = abs(candidate) - variance / scale
        if _bernoulli_exp(excess * excess / (2 * variance)):
            return candidate


def _bernoulli(probability: Fraction) -> bool:
    return secrets.randbelow(probability.denominator) < probability.numerator


def _bernoulli_exp(gamma: Fraction) -> bool:
    """True with probability exp(-gamma), gamma >= 0 (algorithm 1)."""
    while gamma > 1:
        if not _bernoulli_exp(Fraction(1)):
            return False
        gamma -= 1
    k = 1
    while _bernoulli(gamma / k):
        k += 1
    return k % 2 == 1


def _discrete_laplace(scale: int) -> int:
    """Mass proportional to exp(-|x| / scale) (algorithm 2)."""
    while True:
        remainder = secrets.randbelow(scale)
        if not _bernoulli_exp(Fraction(remainder, scale)):
            continue
        quotient = 0
        while _bernoulli_exp(Fraction(1)):
            quotient += 1
        magnitude = remainder + scale * quotient
        negative = secrets.randbelow(2) == 1
        if not (negative and magnitude == 0):
            return -magnitude if negative else magnitude
