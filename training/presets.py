"""Presets: named configurations, each a function that returns one.

A preset's first docstring line is what `groundling train --help` shows beside its name. The presets
of one family differ in what their names say and in nothing else.
"""

import dataclasses
import difflib
from collections.abc import Callable
from functools import partial
from typing import Any

from groundling.agents.config import (
    AgentConfig,
    Attention,
    GlimpseConfig,
    GlimpsePolicy,
    PredictionConfig,
)
from groundling.envs.digits.options import DIGITS, DigitsOptions
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


def know_small_foveal(**prediction: Any) -> TrainConfig:
    """The room of know-small with a 7 × 7 view, of which the agent takes one glimpse per step."""
    config = know_small(**prediction)
    rooms = dataclasses.replace(config.env.rooms, view_size=7)
    # One patch of 16 of the 49 cells, strewn little: what is predicted of it wanders little.
    glimpse = GlimpseConfig(size=4, scales=1, std=0.1)
    return dataclasses.replace(
        config,
        env=dataclasses.replace(config.env, rooms=rooms),
        agent=dataclasses.replace(config.agent, attention="foveal", glimpse=glimpse),
        # Where little is to be seen is easily predicted: with a smaller entropy bonus of locations
        # one seed of three went to look into a corner, and stayed.
        learner=dataclasses.replace(config.learner, lambda_=0.8, location_entropy_weight=0.05),
    )


def look(attention: Attention, pixels: int = 0, **glimpse: Any) -> TrainConfig:
    """A 7 × 7 room with 4 objects and a 15 × 15 view: where to look decides what is found."""
    # A glimpse takes in 6 × 6 of 15 × 15 cells; of an image of 4 × 4 pixels a cell as many cells.
    size = 6 * max(pixels, 1)
    return TrainConfig(
        frames=2_000_000,
        env=EnvironmentConfig(
            rooms=RoomsOptions(size=7, objects=4, view_size=15, view_pixels=pixels)
        ),
        agent=AgentConfig(
            core_size=128,
            sensor_size=128,
            embedding_size=8,
            attention=attention,
            glimpse=GlimpseConfig(**{"size": size, "scales": 1, "std": 0.15} | glimpse),
        ),
        # Rewards are rare: a larger weight of entropy held a seed at chance for good.
        learner=LearnerConfig(entropy_weight=0.02, lambda_=0.8),
        probe=OnlineProbeConfig(online=False),
    )


LOOKS: dict[str, dict[str, Any]] = {
    "full": {"attention": "none"},
    "foveal": {"attention": "foveal"},
    "tile": {"attention": "tile", "size": 5},
    "random": {"attention": "foveal", "policy": "random"},
    "centre": {"attention": "foveal", "policy": "centre"},
    "scan": {"attention": "foveal", "policy": "scan"},
}
"""Ways to look at a room by name: learned ones, and the controls."""


def digits(
    policy: GlimpsePolicy = "learned",
    sensor: str = "",
    sensor_size: int = 128,
    frames: int = 2_000_000,
) -> TrainConfig:
    """A handwritten digit among clutter, to be named after 8 glimpses (Mnih et al. 2014)."""
    # Without attention all of an image is seen at once, and named.
    glimpses = 1 if sensor else 8
    return TrainConfig(
        frames=frames,
        # All of the options, so that each has a flag of its own.
        env=EnvironmentConfig(
            id=DIGITS,
            num_envs=128,
            options=dataclasses.asdict(DigitsOptions(glimpses=glimpses)),
        ),
        agent=AgentConfig(
            feature_size=256,
            sensor_size=sensor_size,
            attention="none" if sensor else "foveal",
            glimpse=GlimpseConfig(size=12, scales=3, std=0.25, policy=policy),
            sensors={"observation": f"groundling.agents.convolutional:{sensor}"} if sensor else {},
        ),
        learner=LearnerConfig(
            unroll_length=glimpses,
            exploration=0.0,
            discount=1.0,
            # The reward comes in the end and says little of one glimpse; what the next one's value
            # says of it varies less.
            lambda_=0.7,
            # The paper's hybrid loss: the name learns by its label, the location by the reward.
            policy_weight=0.0,
            entropy_weight=0.0,
            location_entropy_weight=0.0,
            label_weight=1.0,
        ),
        probe=OnlineProbeConfig(online=False),
    )


NAMERS: dict[str, dict[str, Any]] = {
    "learned": {},
    "random": {"policy": "random"},
    "centre": {"policy": "centre"},
    "scan": {"policy": "scan"},
    "oracle": {"policy": "oracle"},
    # As many weights as the agent with glimpses has, and in as much time four times as many images;
    # and a better network for images, in twice the time two thirds of them.
    "convolution": {"sensor": "OneConvolution", "sensor_size": 154, "frames": 1_000_000},
    "pooled": {"sensor": "PooledConvolutions", "frames": 160_000},
}
"""Ways to see the digit by name: learned locations, the controls, and whole images."""

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


def _named(
    family: str,
    make: Callable[..., TrainConfig],
    settings: dict[str, dict[str, Any]],
    about: str = "",
) -> dict[str, Callable[[], TrainConfig]]:
    """Presets FAMILY-NAME, one for each name's settings, which are `about` something."""

    def preset_of(name: str) -> Callable[[], TrainConfig]:
        def build() -> TrainConfig:
            return make(**settings[name])

        shown = ", ".join(f"{key} {value}" for key, value in settings[name].items())
        build.__doc__ = f"{family}: {about}{shown or name}."
        return build

    return {f"{family}-{name}": preset_of(name) for name in settings}


def _variants(
    family: str, make: Callable[..., TrainConfig]
) -> dict[str, Callable[[], TrainConfig]]:
    """Presets FAMILY-VARIANT, and the upper bound."""

    def answers() -> TrainConfig:
        return dataclasses.replace(make(), probe=OnlineProbeConfig(answers_reach_agent=True))

    answers.__doc__ = f"{family}: no prediction; the answers reach the agent (an upper bound)."
    return _named(family, make, VARIANTS, "prediction ") | {f"{family}-answers": answers}


FAMILIES = {
    "know-small": know_small,
    "know-small-foveal": know_small_foveal,
    "know-medium": know_medium,
    "know": know,
}
"""The worlds of the presets, each with every variant."""

PRESETS: dict[str, Callable[[], TrainConfig]] = {
    "demo": demo,
    "any": any_environment,
    "go-to": go_to,
    "go-to-shuffled": go_to_shuffled,
    **_named("look", look, LOOKS),
    **_named(
        "look-rgb", partial(look, pixels=4), {name: LOOKS[name] for name in ("full", "foveal")}
    ),
    **_named("digits", digits, NAMERS),
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
