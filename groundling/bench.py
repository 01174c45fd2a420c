"""`groundling bench`: how fast this machine walks, and how fast it trains."""

import dataclasses
from collections.abc import Sequence

import tyro

from groundling.commands import print_json
from groundling.envs.errors import UserError
from groundling.settings import preset_name, train_flags


def bench(arguments: Sequence[str]) -> None:
    """Measure speed: groundling bench env, or groundling bench train PRESET [--any.field value]."""
    what, words = (arguments[0], list(arguments[1:])) if arguments else ("env", [])
    if what in ("-h", "--help"):
        print(
            "usage: groundling bench env | train PRESET\n\n"
            "  env    steps per second of an environment under random actions\n"
            "  train  frames per second of a run, as groundling train would do it\n\n"
            "groundling bench env --help and groundling bench train PRESET --help explain each."
        )
    elif what == "env":
        tyro.cli(env, prog="groundling bench env", args=words)
    elif what == "train":
        train(words)
    else:
        raise UserError(f"bench has {what!r}; expected env, or train PRESET")


def env(
    num_envs: int = 64,
    seconds: float = 3.0,
    size: int = 5,
    view_size: int = 7,
    json: bool = False,
) -> None:
    """Measures steps per second of rooms under random actions.

    Args:
        num_envs: Rooms stepped together.
        seconds: For how long.
        size: Interior side length of the room.
        view_size: Side length of the view.
        json: Print the result as JSON.
    """
    from groundling.envs.rooms.options import RoomsOptions
    from groundling.evaluation.throughput import environment_steps_per_second

    rooms = RoomsOptions(size=size, view_size=view_size)
    rate = environment_steps_per_second(rooms, num_envs=num_envs, seconds=seconds)
    if json:
        print_json({"num_envs": num_envs, "steps_per_second": rate})
    else:
        print(f"{rate:,.0f} steps/s with {num_envs} rooms at once")


@dataclasses.dataclass(frozen=True)
class TrainBenchFlags:
    """Measures frames per second of walking and learning together. Nothing is written. Any other
    flag is `groundling train PRESET`'s, such as --device cuda or --env.num-envs 256."""

    seconds: float = 10.0
    """For how long, after a few updates that are not timed."""
    json: bool = False
    """Print the result as JSON."""


def train(arguments: Sequence[str]) -> None:
    """Measures training as a preset and flags of `groundling train` would have it."""
    preset, words = preset_name("bench train", arguments)
    own, rest = tyro.cli(
        TrainBenchFlags,
        prog=f"groundling bench train {preset}",
        args=words,
        return_unknown_args=True,
    )
    if own.seconds <= 0:
        raise UserError(f"--seconds is {own.seconds}; expected more than 0")
    config = train_flags(preset, rest, command="bench train").settings
    from groundling.evaluation.throughput import training_pace

    pace = training_pace(config, seconds=own.seconds)
    if own.json:
        print_json({"preset": preset, "device": config.device, **pace._asdict()})
    else:
        print(
            f"{pace.frames_per_second:,.0f} frames/s: {preset} on {config.device}, "
            f"{config.env.num_envs} environments × {config.learner.unroll_length} steps; "
            f"{pace.walking:.0%} walking, {1 - pace.walking:.0%} learning"
        )
