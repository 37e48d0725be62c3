"""Randomness that privacy rests on: a cipher keyed by the operating system, never a seed."""

import os
import secrets
from fractions import Fraction
from math import isqrt
from typing import NoReturn

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray
from torch import Tensor

_WORD = 1 << 64
_BLOCK = 16
_CPU = torch.device("cpu")


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
        # The cipher asks for room for a block more, less a byte.
        out = np.empty(8 * count + _BLOCK - 1, dtype=np.uint8)
        self._keystream.update_into(bytes(8 * count), out.data)
        return out[: 8 * count].view("<u8")

    def normals(self, count: int, device: torch.device = _CPU) -> Tensor:
        """`count` standard normals, float64, by Box and Muller (1958) from 53-bit uniforms."""
        pairs = (count + 1) // 2
        words = torch.from_numpy((self.words(2 * pairs) >> np.uint64(11)).view(np.int64))
        uniforms = words.to(device).double() * 2.0**-53
        # (0, 1]: the logarithm never meets zero.
        radius = (-2.0 * (uniforms[:pairs] + 2.0**-53).log()).sqrt()
        angle = 2.0 * torch.pi * uniforms[pairs:]
        return torch.cat([radius * angle.cos(), radius * angle.sin()])[:count]

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
