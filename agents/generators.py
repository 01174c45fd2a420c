"""Named random generators.

Every module initialises, and every loss samples, from a generator of its own, derived from the
run's seed and a name. Adding a probe, or a loss of weight 0, therefore changes no number anywhere
else: the agent stays bitwise the same.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from groundling.envs.errors import UserError


def named_seed(seed: int, name: str) -> int:
    """A 63-bit seed that depends on `seed` and `name` alone.

    Raises ValueError for a negative seed.
    """
    if seed < 0:
        raise UserError(f"seed is {seed}; expected 0 or more")
    sequence = np.random.SeedSequence((seed, zlib.crc32(name.encode())))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def named_generator(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator on `device`, seeded by `named_seed`."""
    return torch.Generator(device=device).manual_seed(named_seed(seed, name))


@contextmanager
def initialised_by(seed: int, name: str) -> Iterator[None]:
    """Modules built inside draw their initial weights from the generator of that name.

    The global generator is left exactly as it was found. One thread alone computes: the last bits
    of an orthogonal matrix depend on how many there are, and a run's weights must not.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(named_seed(seed, name))
            yield
    finally:
        torch.set_num_threads(threads)
