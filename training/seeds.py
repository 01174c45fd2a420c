"""Seeds of environments: no room is shared between purposes or between runs."""

from typing import Literal

import numpy as np

Purpose = Literal[
    "train", "evaluation", "probe-train", "probe-validation", "probe-test", "probe-novel"
]
PURPOSES: tuple[Purpose, ...] = (
    "train",
    "evaluation",
    "probe-train",
    "probe-validation",
    "probe-test",
    "probe-novel",
)

PROTOCOL = 20_201_006
"""Stands in for the run's seed where all agents must meet the same rooms: probing, evaluation."""


def environment_seed(purpose: Purpose, run_seed: int | None = None) -> int:
    """The base that environment i adds i to: 63 bits drawn from (run seed, purpose).

    Args:
        purpose: what the rooms are for.
        run_seed: of a run, for "train"; None for the rooms of the protocol, the same for all.
    """
    of_protocol = run_seed is None
    # The last word of the key keeps the protocol's rooms apart even from the run whose seed is
    # the protocol's number.
    sequence = np.random.SeedSequence(
        PROTOCOL if run_seed is None else run_seed,
        spawn_key=(PURPOSES.index(purpose), int(of_protocol)),
    )
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))
