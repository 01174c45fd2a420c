"""The environments that `gymnasium.make` knows after `import groundling`.

Entry points are strings, so that registering compiles nothing and imports no numba. No
`max_episode_steps`: Gymnasium would wrap single environments in a TimeLimit and hand the number to
the vector one's constructor; `episode_length` says the same to both.
"""

import gymnasium

from groundling.envs.rooms.options import TASKS


def register_environments() -> None:
    """Make Gymnasium know the environments. Doing so twice is harmless."""
    for name, task in TASKS.items():
        if name not in gymnasium.registry:
            gymnasium.register(
                name,
                entry_point="groundling.envs.rooms.single:RoomsEnv",
                vector_entry_point="groundling.envs.rooms.vector:RoomsVectorEnv",
                kwargs={"task": task},
            )
