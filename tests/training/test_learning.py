"""The whole of it learns: a fixed tiny room is solved to its known optimal return."""

import gymnasium
import numpy as np
import pytest
import torch

from groundling.agents.config import AgentConfig
from groundling.envs.rooms.vector import RoomsVectorEnv
from groundling.training.actor import Actor
from groundling.training.config import (
    EnvironmentConfig,
    LearnerConfig,
    OnlineProbeConfig,
    TrainConfig,
)
from groundling.training.environments import make_environment
from groundling.training.loop import train
from groundling.training.run import load_agent

ROOM = "Tests/FixedRoom-v0"
STEPS = 16
SEED = 2  # a room in which the first reward is five steps away, the most there can be


class FixedRoom(RoomsVectorEnv):
    """The same room in every environment and every episode."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=[SEED] * self.num_envs, options=options)

    def step(self, actions):
        self.world.episode[:] = -1  # the next one is episode 0 again
        return super().step(actions)


@pytest.fixture
def config():
    gymnasium.register(ROOM, vector_entry_point=FixedRoom)
    options = {
        "size": 3,
        "objects": 1,
        "shapes": 2,
        "colours": 2,
        "view_size": 3,
        "episode_length": STEPS,
    }
    yield TrainConfig(
        frames=60_000,
        env=EnvironmentConfig(id=ROOM, num_envs=8, options=options),
        agent=AgentConfig(core_size=32, feature_size=32, sensor_size=32, embedding_size=8),
        learner=LearnerConfig(
            unroll_length=16, learning_rate=5e-3, discount=0.9, entropy_weight=0.02
        ),
        probe=OnlineProbeConfig(online=False),
    )
    del gymnasium.registry[ROOM]


def best_return(config):
    """A shortest path to the only object, then a reward at every step: nobody can do better."""
    environment = make_environment(config.env, num_envs=1)
    environment.reset()
    rewards = [
        environment.step(environment.unwrapped.explorer_actions())[1][0] for _ in range(STEPS)
    ]
    first = int(np.argmax(rewards))
    assert rewards == [0.0] * first + [1.0] * (STEPS - first)
    return sum(rewards)


def mean_return(agent, config):
    """Of 64 episodes, actions drawn from the policy."""
    actor = Actor(
        make_environment(config.env, num_envs=64),
        agent,
        seed=0,
        generator=torch.Generator().manual_seed(0),
    )
    actor.collect(STEPS)
    assert [episode.length for episode in actor.finished] == [STEPS] * 64
    return np.mean([episode.episode_return for episode in actor.finished])


@pytest.mark.slow
def test_a_fixed_tiny_room_is_solved_to_its_optimal_return(config, tmp_path):
    best = best_return(config)
    train(config, tmp_path / "run", show_progress=False)
    untrained, _ = load_agent(tmp_path / "run", untrained=True)
    trained, _ = load_agent(tmp_path / "run")
    assert mean_return(untrained, config) < 0.3 * best
    assert mean_return(trained, config) > 0.95 * best
