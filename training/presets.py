"""Presets: named configurations, each a function that returns one.

A preset's first docstring line is what `groundling train --help` shows beside its name.
"""

import difflib
from collections.abc import Callable

from groundling.envs.errors import UserError
from groundling.envs.rooms.options import RoomsOptions
from groundling.training.config import EnvironmentConfig, TrainConfig


def demo() -> TrainConfig:
    """A 5 × 5 room with 3 objects, a few minutes on two cores."""
    return TrainConfig(
        frames=1_000_000,
        log_every=40,
        env=EnvironmentConfig(rooms=RoomsOptions(size=5, objects=3, view_size=3)),
    )


def l_shape() -> TrainConfig:
    """An 11 × 11 L-shaped room with 10 objects of 20 shapes, 10 colours and 2 sizes."""
    rooms = RoomsOptions(
        layout="l_shape",
        size=11,
        objects=10,
        shapes=20,
        colours=10,
        sizes=2,
        view_size=7,
        episode_length=256,
    )
    return TrainConfig(frames=20_000_000, env=EnvironmentConfig(num_envs=32, rooms=rooms))


PRESETS: dict[str, Callable[[], TrainConfig]] = {"demo": demo, "l-shape": l_shape}


def preset(name: str) -> TrainConfig:
    """The configuration of that name.

    Raises:
        ValueError: there is none; names the nearest ones.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=2, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UserError(f"unknown preset {name!r}; {hint}expected one of {', '.join(PRESETS)}")
    return PRESETS[name]()
