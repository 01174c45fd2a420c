"""How many steps a second the rooms make, beside EnvPool's C++ MiniGrid and Python's MiniGrid.

    python tests/perf/bench_env.py [--seconds 1.0] [--pairs 7] [--core 0]

Needs `pip install envpool==1.2.5 minigrid`. All on one core, in one process, taking turns: each
round times ours and then the peer, and the ratio is the median over rounds, so that whatever else
the machine does hits both. Random actions, drawn beforehand, episodes of 120 steps (the length
MiniGrid gives MultiRoom-N6). Ours, layout by layout: a 7 × 7 view with line of sight, a new house
every episode, and the step at which every cell was last seen. Houses of several rooms have doors.
EnvPool always steps 64 environments; bars are ratios.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from statistics import median
from typing import NamedTuple

import numpy as np

PEER = "MiniGrid-MultiRoom-N6-v0"
EPISODE_LENGTH = 120

Step = Callable[[np.ndarray], object]


LAYOUTS: dict[str, dict[str, object]] = {
    "four_rooms": {"size": 5, "objects": 8, "doors": True},
    "single": {"size": 7, "objects": 5},
    "l_shape": {"size": 7, "objects": 5},
    "two_rooms": {"size": 5, "objects": 5, "doors": True},
    "corridor": {"size": 4, "objects": 8, "doors": True},
}
"""What is compared."""


def rooms(layout: str) -> Callable[[int], Step]:
    """Say how to make our houses of one layout."""

    def make(num_envs: int) -> Step:
        from groundling.envs import RoomsVectorEnv

        env = RoomsVectorEnv(
            num_envs,
            layout=layout,
            view_size=7,
            episode_length=EPISODE_LENGTH,
            stagger=True,
            **LAYOUTS[layout],
        )
        env.reset(seed=0)
        return env.step

    return make


def envpool_minigrid(num_envs: int) -> Step:
    """Make EnvPool's rooms on one thread."""
    import envpool

    env = envpool.make_gymnasium(PEER, num_envs=num_envs, num_threads=1, seed=0)
    env.reset()
    return env.step


def python_minigrid(num_envs: int) -> Step:
    """Make one room of Python's MiniGrid; there is no batch of them but a loop."""
    import gymnasium
    import minigrid  # noqa: F401  registers the environments

    assert num_envs == 1
    env = gymnasium.make(PEER)
    env.reset(seed=0)

    def step(actions: np.ndarray) -> None:
        _, _, terminated, truncated, _ = env.step(actions[0])
        if terminated or truncated:
            env.reset()

    return step


class Peer(NamedTuple):
    """Whom to compare with, and how many environments it steps at once."""

    name: str
    make: Callable[[int], Step]
    size: int


ENVPOOL = Peer("EnvPool 1.2.5", envpool_minigrid, 64)
ROUNDS = [
    ("four_rooms", 64, ENVPOOL, 20),
    # 5 million steps a second where EnvPool makes 285,000.
    ("four_rooms", 1024, ENVPOOL, 17.5),
    ("four_rooms", 1, ENVPOOL, None),
    ("four_rooms", 4096, ENVPOOL, None),
    *((layout, 64, ENVPOOL, 15) for layout in LAYOUTS if layout != "four_rooms"),
    ("single", 64, Peer("Python MiniGrid, one", python_minigrid, 1), 250),
]
"""Layout, how many rooms at once, the peer, and how many times its steps ours are to be."""


def prepared_actions(num_envs: int) -> Iterator[np.ndarray]:
    """Give random actions without end; 0 … 3 are known to all contestants."""
    actions = np.random.default_rng(0).integers(0, 4, (1009, num_envs)).astype(np.int32)
    return cycle(list(actions))


def steps_per_second(step: Step, actions: Iterator[np.ndarray], seconds: float) -> float:
    """Time a contestant: environment steps a second."""
    taken, size = 0, len(next(actions))
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        for _ in range(50):
            step(next(actions))
        taken += 50 * size
    return taken / (time.perf_counter() - started)


def compare(
    ours: tuple[Callable[[int], Step], int],
    peer: tuple[Callable[[int], Step], int],
    pairs: int,
    seconds: float,
) -> tuple[float, float, float]:
    """Give the medians of our steps a second, of the peer's, and of the ratio within a pair."""
    contestants = [(make(size), prepared_actions(size)) for make, size in (ours, peer)]
    for step, actions in contestants:
        steps_per_second(step, actions, 0.3)
    timed = [
        [steps_per_second(step, actions, seconds) for step, actions in contestants]
        for _ in range(pairs)
    ]
    return (
        median(pair[0] for pair in timed),
        median(pair[1] for pair in timed),
        median(pair[0] / pair[1] for pair in timed),
    )


def main() -> None:
    """Compare and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one measurement")
    parser.add_argument("--pairs", type=int, default=7, help="measurements of each contestant")
    parser.add_argument("--core", type=int, default=0, help="the core everything runs on")
    arguments = parser.parse_args()
    # Before EnvPool starts its thread, which inherits the core.
    os.sched_setaffinity(0, {arguments.core})

    print(
        f"{'ours':<12}{'rooms':>5}  {'peer':<22}{'ours/s':>12}{'peer/s':>12}{'ratio':>8}{'bar':>7}"
    )
    for layout, size, peer, bar in ROUNDS:
        ours, theirs, ratio = compare(
            (rooms(layout), size), peer[1:], arguments.pairs, arguments.seconds
        )
        told = f"{layout:<12}{size:>5}  {peer.name:<22}{ours:>12,.0f}{theirs:>12,.0f}"
        print(f"{told}{ratio:>8.1f}{bar or '-':>7}")


if __name__ == "__main__":
    main()
