"""Several agents in one house learn, sharing one network."""

import numpy as np
import pytest
import torch

from groundling.agents.config import AgentConfig
from groundling.evaluation.episodes import episode_returns
from groundling.evaluation.walks import Reader, at_random, by_agent
from groundling.training.config import (
    EnvironmentConfig,
    LearnerConfig,
    OnlineProbeConfig,
    TrainConfig,
)
from groundling.training.environments import make_environment
from groundling.training.loop import train
from groundling.training.run import load_agent

HOUSE = {
    "agents": 2,
    "mode": "competitive",
    "quota": 3,
    "size": 3,
    "objects": 2,
    "shapes": 3,
    "colours": 3,
    "view_size": 3,
    "episode_length": 32,
}


@pytest.mark.slow
def test_two_agents_learn_to_race_for_what_pays(tmp_path):
    config = TrainConfig(
        frames=40_000,
        env=EnvironmentConfig(
            id="groundling.envs.groundling_house_v0:parallel_env", num_envs=16, options=HOUSE
        ),
        agent=AgentConfig(core_size=64, feature_size=64, sensor_size=64, embedding_size=8),
        learner=LearnerConfig(unroll_length=16, learning_rate=2e-3, entropy_weight=0.01),
        probe=OnlineProbeConfig(online=False),
    )
    train(config, tmp_path / "run", show_progress=False)
    agent, _ = load_agent(tmp_path / "run")

    environment = make_environment(config.env)

    def mean_returns(choose, readers=()):
        """Of each agent, over all copies and episodes."""
        returns = episode_returns(environment, choose, 320, readers=readers, shown=False)
        return returns.reshape(-1, HOUSE["agents"], returns.shape[1]).mean(axis=(0, 2))

    random = mean_returns(at_random(environment, np.random.default_rng(0)))
    reader = Reader(agent, environment.num_envs)
    learned = mean_returns(by_agent(reader, torch.Generator().manual_seed(0)), (reader,))
    assert (learned > random + 1).all()
