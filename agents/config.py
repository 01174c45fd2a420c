"""The agent's configuration. Imports nothing heavy: the command line shows it at once."""

from dataclasses import dataclass, field
from typing import Literal

from groundling.envs.errors import UserError

Attention = Literal["none", "tile", "foveal"]
GlimpsePolicy = Literal["learned", "random", "centre", "scan", "oracle"]


@dataclass(frozen=True)
class PredictionConfig:
    """The auxiliary loss that predicts what the agent will see, and its ablations as switches."""

    loss: Literal["none", "simcore", "cpc"] = "none"
    """No prediction; SimCore (Gregor et al. 2019): generate the future; CPC|A (Guo et al. 2018):
    tell it from others."""
    weight: float = 0.3
    """Weight of the horizons from 1 on, in the agent's total loss."""
    present_weight: float = 0.0
    """Weight of horizon 0: the present view from the belief itself, without the simulator (0.3
    where it is used)."""
    starts: int = 8
    """Rows of each unroll from which the simulator sets out."""
    horizons: int = 6
    """Horizons that are predicted from each start, drawn anew for every update."""
    first_limit: int = 2
    """Longest horizon at the beginning of training."""
    last_limit: int = 10
    """Longest horizon in the end."""
    frames_per_horizon: int = 200_000
    """Frames after which the longest horizon grows by one (0: it is the last limit at once)."""
    balance: float = 0.5
    """How strongly rare cells count: by their kind's frequency to the power of minus this (0: all
    alike; symbolic views only)."""
    tied: bool = True
    """Whether the generative head scores categories by the sensor's own embeddings."""
    actions: bool = True
    """Whether the simulator is told the actions (without: what comes next on average)."""
    reaches_agent: bool = True
    """Whether the gradient flows into the belief (without: the loss teaches the simulator only)."""
    privileged: bool = False
    """Whether an agent with attention predicts the whole view (without: the glimpse)."""
    shuffled: bool = False
    """Placebo: predict the future of another environment of the batch (of the same group, where
    CPC|A tells a large batch apart in groups; SimCore is asked about the same)."""
    contrast: Literal["binary", "infonce"] = "binary"
    """CPC|A: tell true from false one by one (Guo et al. 2018), or the true one among all."""

    def __post_init__(self) -> None:
        for name in ("starts", "horizons", "first_limit", "last_limit"):
            value = getattr(self, name)
            if value < 1:
                flag = name.replace("_", "-")
                raise UserError(f"agent.prediction.{flag} is {value}; expected at least 1")
        for name in ("weight", "present_weight", "frames_per_horizon", "balance"):
            value = getattr(self, name)
            if value < 0:
                flag = name.replace("_", "-")
                raise UserError(f"agent.prediction.{flag} is {value}; expected 0 or more")
        if self.first_limit > self.last_limit:
            raise UserError(
                f"agent.prediction.first-limit is {self.first_limit}; "
                f"expected at most last-limit ({self.last_limit})"
            )

    def limit(self, frames: int) -> int:
        """The longest horizon after so many frames of training."""
        if self.frames_per_horizon == 0:
            return self.last_limit
        return min(self.last_limit, self.first_limit + frames // self.frames_per_horizon)


@dataclass(frozen=True)
class GlimpseConfig:
    """What one look takes in, and who decides where to look."""

    size: int = 3
    """Places (cells or pixels) along the side of a tile, or of the fovea's finest patch."""
    scales: int = 3
    """Patches of the fovea at one centre, each twice as wide as the last, all of the same number of
    places (a tile has one)."""
    std: float = 0.15
    """Standard deviation of the fovea's locations; the view reaches from -1 to 1."""
    policy: GlimpsePolicy = "learned"
    """Who chooses the next location: the location policy; the controls: chance, always the centre,
    a fixed path over the view; the environment, where it tells (`info["target"]`)."""
    part: str = ""
    """The part of the observation that is glimpsed; empty: the only grid or image in it."""

    def __post_init__(self) -> None:
        for name in ("size", "scales"):
            value = getattr(self, name)
            if value < 1:
                raise UserError(f"agent.glimpse.{name} is {value}; expected at least 1")
        if self.std <= 0:
            raise UserError(f"agent.glimpse.std is {self.std}; expected a positive number")


@dataclass(frozen=True)
class AgentConfig:
    """Sizes of the networks. The spaces of the environment decide everything else."""

    core_size: int = 256
    """Units of the LSTM core; the belief a probe reads has twice as many numbers."""
    feature_size: int = 128
    """Numbers the sensors hand to the core at each step."""
    sensor_size: int = 256
    """Hidden units of each sensor."""
    embedding_size: int = 16
    """Numbers per channel of a cell; one embedding table per channel, shared by all cells."""
    prediction: PredictionConfig = field(default_factory=PredictionConfig)
    """The auxiliary loss."""
    attention: Attention = "none"
    """What is read of a view: all of it, or a glimpse at each step, where the agent chooses: a tile
    of it, or patches of falling sharpness around one place (Mnih et al. 2014)."""
    glimpse: GlimpseConfig = field(default_factory=GlimpseConfig)
    """The glimpse, where there is attention."""
    sensors: dict[str, str] = field(default_factory=dict)
    """Sensors of your own, as `part module:Class` pairs: what reads that part of what is seen."""

    def __post_init__(self) -> None:
        for name in ("core_size", "feature_size", "sensor_size", "embedding_size"):
            value = getattr(self, name)
            if value < 1:
                raise UserError(f"agent.{name.replace('_', '-')} is {value}; expected at least 1")
