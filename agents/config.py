"""The agent's configuration. Imports nothing, so that the command line can show it at once."""

from dataclasses import dataclass

from groundling.envs.errors import UserError


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

    def __post_init__(self) -> None:
        for name in ("core_size", "feature_size", "sensor_size", "embedding_size"):
            value = getattr(self, name)
            if value < 1:
                raise UserError(f"agent.{name} is {value}; expected at least 1")
