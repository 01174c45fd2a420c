"""Groundling: which way of learning puts knowledge of the world into an agent's memory?

Importing this registers the environments with Gymnasium. Everything heavy (torch, numba) is
imported when it is first used.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import groundling.envs  # noqa: F401  (registers the environments)

if TYPE_CHECKING:
    from groundling.agents.agent import Agent
    from groundling.training.config import TrainConfig
    from groundling.training.run import RunDirectory

__version__ = "0.1.0"
__all__ = ["__version__", "load", "train"]


def train(
    config: "TrainConfig", run_dir: Path | str, *, show_progress: bool = True
) -> "RunDirectory":
    """Trains an agent, or resumes where the same call stopped.

    Args:
        config: see `groundling.training.config.TrainConfig`; presets are functions in
            `groundling.training.presets`.
        run_dir: made if it is not there.
        show_progress: a live display on stderr.

    Returns:
        The run directory.

    Raises:
        ValueError: something in the configuration cannot be done here; names the field.
    """
    from groundling.training.loop import train as train_run

    return train_run(config, run_dir, show_progress=show_progress)


def load(run_dir: Path | str, *, device: str = "cpu") -> tuple["Agent", "TrainConfig"]:
    """The trained agent of a run, frozen, and its configuration.

    Args:
        run_dir: a directory that training made.
        device: where the weights go.

    Raises:
        ValueError: the directory is no run, or its checkpoint cannot be used.
    """
    from groundling.training.run import load_agent

    return load_agent(run_dir, device=device)
