"""Presets: named configurations, each a function that returns one.

A preset's first docstring line is what `groundling train --help` shows beside its name. The presets
of one family differ in what their names say and in nothing else.
"""

import dataclasses
import difflib
from collections.abc import Callable
from typing import Any

from groundling.agents.config import AgentConfig, PredictionConfig
from groundling.envs.errors import UserError
from groundling.envs.rooms.options import RoomsOptions
from groundling.training.config import (
    EnvironmentConfig,
    LearnerConfig,
    OnlineProbeConfig,
    TrainConfig,
)


def demo() -> TrainConfig:
    """A 5 × 5 room with 3 objects, and an agent that predicts; minutes on two cores."""
    # In so short a time, predicting loudly, and far ahead, is what knowledge comes of.
    prediction = VARIANTS["far-weight-1"]
    return dataclasses.replace(know_small(**prediction), frames=DEMO_FRAMES, log_every=20)


DEMO_FRAMES = 900_000


def go_to() -> TrainConfig:
    """A 5 × 5 room, 3 objects, and an instruction that says which one to go to; minutes."""
    return TrainConfig(
        frames=3_000_000,
        log_every=100,
        env=EnvironmentConfig(
            id="Groundling/GoTo-v0",
            rooms=RoomsOptions(task="go_to", size=5, objects=3, sizes=2, view_size=5),
        ),
        # Whoever walks at random against things goes to the wrong one: less of it than elsewhere.
        learner=LearnerConfig(exploration=0.02, entropy_weight=0.02),
        probe=OnlineProbeConfig(online=False),
    )


def go_to_shuffled() -> TrainConfig:
    """The control of go-to: which object is meant is drawn without regard to the instruction."""
    config = go_to()
    rooms = dataclasses.replace(config.env.rooms, shuffled=True)
    return dataclasses.replace(config, env=dataclasses.replace(config.env, rooms=rooms))


def any_environment() -> TrainConfig:
    """Anybody's environment, by --env.id; learns by reward, asks where it can be asked."""
    return TrainConfig(
        env=EnvironmentConfig(id="CartPole-v1"),
        learner=LearnerConfig(exploration=0.0, entropy_weight=0.01),
        probe=OnlineProbeConfig(online="auto"),
    )


def know_small(**prediction: Any) -> TrainConfig:
    """A 5 × 5 room, 3 objects of 8 shapes and 6 colours, a 3 × 3 view, 64 steps."""
    return TrainConfig(
        frames=4_000_000,
        log_every=100,
        env=EnvironmentConfig(
            num_envs=16,
            rooms=RoomsOptions(
                size=5, objects=3, shapes=8, colours=6, view_size=3, episode_length=64
            ),
        ),
        agent=AgentConfig(prediction=PredictionConfig(**prediction)),
    )


def know_medium(**prediction: Any) -> TrainConfig:
    """A 7 × 7 room, 5 objects of 8 shapes and 6 colours, a 5 × 5 view, 64 steps."""
    config = know_small(**prediction)
    rooms = dataclasses.replace(config.env.rooms, size=7, objects=5, view_size=5)
    return dataclasses.replace(config, env=dataclasses.replace(config.env, rooms=rooms))


def know(**prediction: Any) -> TrainConfig:
    """An 11 × 11 L-shaped room, 10 objects of 20 shapes, 10 colours, 2 sizes: a night's work."""
    return TrainConfig(
        frames=100_000_000,
        log_every=500,
        env=EnvironmentConfig(
            num_envs=32,
            rooms=RoomsOptions(
                layout="l_shape",
                size=11,
                objects=10,
                shapes=20,
                colours=10,
                sizes=2,
                view_size=7,
                episode_length=256,
            ),
        ),
        agent=AgentConfig(prediction=PredictionConfig(**prediction)),
    )


_PRESENT = {"present_weight": 0.3}

VARIANTS: dict[str, dict[str, Any]] = {
    "none": {},
    "simcore": {"loss": "simcore"},
    "weight-1": {"loss": "simcore", "weight": 1.0},
    # Its last horizon from the start.
    "far-weight-1": {"loss": "simcore", "weight": 1.0, "frames_per_horizon": 0},
    # Horizon 0, reconstruction of the present view: alone, and beside the future.
    "present": {"loss": "simcore", "weight": 0.0} | _PRESENT,
    "both": {"loss": "simcore"} | _PRESENT,
    "both-weight-1": {"loss": "simcore", "weight": 1.0} | _PRESENT,
    "cpc": {"loss": "cpc"},
    "cpc-both": {"loss": "cpc"} | _PRESENT,
    "infonce": {"loss": "cpc", "contrast": "infonce"},
    "infonce-both": {"loss": "cpc", "contrast": "infonce"} | _PRESENT,
    # What SimCore is made of, one switch at a time.
    "one-step": {"loss": "simcore", "first_limit": 1, "last_limit": 1},
    "fixed-horizon": {"loss": "simcore", "frames_per_horizon": 0},
    "uniform": {"loss": "simcore", "balance": 0.0},
    "untied": {"loss": "simcore", "tied": False},
    "action-free": {"loss": "simcore", "actions": False},
    "stopped": {"loss": "simcore", "reaches_agent": False},
    "shuffled": {"loss": "simcore", "shuffled": True},
}
"""Prediction losses and their ablations by name."""


def _variants(
    family: str, make: Callable[..., TrainConfig]
) -> dict[str, Callable[[], TrainConfig]]:
    def variant(settings: dict[str, Any]) -> Callable[[], TrainConfig]:
        def build() -> TrainConfig:
            return make(**settings)

        shown = ", ".join(f"{name} {value}" for name, value in settings.items())
        build.__doc__ = f"{family}: prediction {shown or 'none'}."
        return build

    def answers() -> TrainConfig:
        return dataclasses.replace(make(), probe=OnlineProbeConfig(answers_reach_agent=True))

    answers.__doc__ = f"{family}: no prediction; the answers reach the agent (an upper bound)."
    named = {f"{family}-{name}": variant(settings) for name, settings in VARIANTS.items()}
    return named | {f"{family}-answers": answers}


FAMILIES = {"know-small": know_small, "know-medium": know_medium, "know": know}
"""The worlds of the presets, each with every variant."""

PRESETS: dict[str, Callable[[], TrainConfig]] = {
    "demo": demo,
    "any": any_environment,
    "go-to": go_to,
    "go-to-shuffled": go_to_shuffled,
    **{
        name: build
        for family, make in FAMILIES.items()
        for name, build in _variants(family, make).items()
    },
}


def preset(name: str) -> TrainConfig:
    """The configuration of that name.

    Raises:
        UserError: there is none; names the nearest ones.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=2, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        others = [one for one in PRESETS if not one.startswith(tuple(FAMILIES))]
        families, variants = ", ".join(FAMILIES), ", ".join([*VARIANTS, "answers"])
        raise UserError(
            f"unknown preset {name!r}; {hint}expected {', '.join(others)}, or FAMILY-VARIANT "
            f"with a family of {families} and a variant of {variants}"
        )
    return PRESETS[name]()
