"""Random numbers inside compiled kernels: splitmix64 (Steele, Lea & Flood 2014, OOPSLA).

NumPy's generators cannot be handed to a kernel by the thousand, one per room. Here a generator is
one 64-bit state, so every room has its own, and what a room draws depends on its seed and stream
alone: not on the size of the batch, nor on the order in which rooms are visited.
"""

from typing import Any

import numba
import numpy as np

Integer = int | np.integer[Any]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@numba.njit(cache=True, inline="always")
def _scramble(value: np.uint64) -> np.uint64:
    """Mix the bits of a word: splitmix64's finaliser, a bijection on uint64."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@numba.njit(cache=True, inline="always")
def mix(seed: Integer, stream: Integer) -> np.uint64:
    """Give the first state (uint64) of stream number `stream` of a seed.

    Both are hashed, so that neighbouring seeds, streams and pairs of them share nothing. More than
    two numbers are mixed by nesting: `mix(mix(a, b), c)`.
    """
    return _scramble(_scramble(np.uint64(seed) + _GOLDEN) ^ (np.uint64(stream) * _GOLDEN))


@numba.njit(cache=True, inline="always")
def next_state(state: np.uint64) -> np.uint64:
    """Give the state that follows `state`."""
    return state + _GOLDEN


@numba.njit(cache=True, inline="always")
def below(state: np.uint64, n: Integer) -> tuple[np.int64, np.uint64]:
    """Draw an integer from 0 … n - 1 (n at least 1) and give it with the next state.

    Multiplies the upper 32 random bits by n instead of taking a remainder; the bias is below
    n / 2**32.
    """
    state = next_state(state)
    high = _scramble(state) >> np.uint64(32)
    return np.int64((high * np.uint64(n)) >> np.uint64(32)), state
