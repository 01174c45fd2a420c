"""Every kind of action space is learned in, through the whole of training, and resumed."""

import math

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from groundling.agents.config import AgentConfig, PredictionConfig
from groundling.evaluation.episodes import evaluate
from groundling.training.checkpoint import load_checkpoint
from groundling.training.config import (
    EnvironmentConfig,
    LearnerConfig,
    OnlineProbeConfig,
    TrainConfig,
)
from groundling.training.loop import Training, train
from groundling.training.metrics import read_rows

MATCHING = "Tests/Matching-v0"
LOW, HIGH = np.array([-2.0, 10.0]), np.array([2.0, 30.0])
SPACES = {
    "discrete": spaces.Discrete(2, start=5),
    "choices": spaces.MultiDiscrete([[2, 2]], start=[[0, 7]]),
    "switches": spaces.MultiBinary(2),
    "numbers": spaces.Box(LOW, HIGH, dtype=np.float64),
    "numbers without bounds": spaces.Box(-math.inf, math.inf, (2,)),
}


class Matching(VectorEnv):
    """Episodes of two steps that are cut off; at each the action is to match what is shown, 0 or 1:
    as a category, or half way between the middle and that bound of a number."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, num_envs, kind="discrete"):
        self.num_envs = num_envs
        self.single_action_space = SPACES[kind]
        self.single_observation_space = spaces.Discrete(2)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.elapsed = 0
        return self._show(), {}

    def _show(self):
        self.shown = self.np_random.integers(2, size=self.num_envs)
        return self.shown

    def step(self, actions):
        assert self.action_space.contains(actions)
        distance = self._distance(actions).reshape(self.num_envs, -1).mean(-1)
        self.elapsed = (self.elapsed + 1) % 2
        truncated = np.full(self.num_envs, self.elapsed == 0)
        info = {"final_obs": np.array([*self.shown, None], object)[:-1]} if truncated[0] else {}
        no = np.zeros(self.num_envs, bool)
        return self._show(), 1.0 - distance, no, truncated, info

    def _distance(self, actions):
        space = self.single_action_space
        if isinstance(space, spaces.Box):
            middle, half = (HIGH + LOW) / 2, (HIGH - LOW) / 2
            if not space.is_bounded():
                middle, half = 0.0, 1.0
            wanted = self.shown[:, None] - 0.5
            return np.minimum(np.abs((actions - middle) / half - wanted), 1.0)
        start = getattr(space, "start", 0)
        return actions - start != self.shown.reshape(-1, *[1] * len(space.shape))

    def get_state(self):
        state = self.np_random.bit_generator.state["state"]
        numbers = [state[name] >> shift & (2**32 - 1) for name in ("state", "inc")
                   for shift in (96, 64, 32, 0)]  # fmt: skip
        return {
            "generator": np.array(numbers, np.int64),
            "shown": self.shown,
            "elapsed": np.array(self.elapsed),
        }

    def set_state(self, state):
        whole = [
            sum(int(part) << shift for part, shift in zip(parts, (96, 64, 32, 0), strict=True))
            for parts in state["generator"].reshape(2, 4)
        ]
        generator = self.np_random.bit_generator
        generator.state = generator.state | {"state": {"state": whole[0], "inc": whole[1]}}
        self.shown, self.elapsed = state["shown"], int(state["elapsed"])


@pytest.fixture
def config_of():
    gymnasium.register(MATCHING, vector_entry_point=Matching)

    def make(kind, updates, prediction=None, exploration=0.1):
        return TrainConfig(
            frames=updates * 16 * 8,
            log_every=1,
            env=EnvironmentConfig(id=MATCHING, num_envs=16, options={"kind": kind}),
            agent=AgentConfig(
                core_size=16,
                feature_size=16,
                sensor_size=16,
                embedding_size=8,
                prediction=prediction or PredictionConfig(),
            ),
            learner=LearnerConfig(
                unroll_length=8,
                learning_rate=1e-2,
                discount=0.5,
                entropy_weight=0.01,
                exploration=exploration,
            ),
            probe=OnlineProbeConfig(online=False),
        )

    yield make
    del gymnasium.registry[MATCHING]


@pytest.mark.parametrize("kind", list(SPACES))
def test_a_trivial_task_is_learned_in_every_kind_of_action_space(config_of, kind):
    training = Training(config_of(kind, 1), torch.device("cpu"))

    def earned():
        unroll = training.actor.collect(8)
        return unroll.rows.previous_reward[1:].mean().item(), unroll

    before = np.mean([earned()[0] for _ in range(10)])
    for _ in range(120):
        measured = training.learner.step(earned()[1])
    after = np.mean([earned()[0] for _ in range(10)])
    # Nobody earns more than 1; a Gaussian has a width, and the others explore.
    assert before < 0.6
    assert after > 0.85
    assert math.isfinite(measured["entropy"].value)


@pytest.mark.parametrize("kind", ["choices", "numbers"])
def test_a_run_in_two_halves_is_the_whole_run(config_of, tmp_path, kind):
    prediction = PredictionConfig(loss="simcore", starts=2, horizons=2)
    straight = train(config_of(kind, 6, prediction), tmp_path / "straight", show_progress=False)
    run = train(config_of(kind, 3, prediction), tmp_path / "run", show_progress=False)
    train(config_of(kind, 6, prediction), run.path, show_progress=False)
    one, other = (load_checkpoint(made.checkpoint) for made in (straight, run))
    for name, weight in one["learner"]["agent"].items():
        assert torch.equal(weight, other["learner"]["agent"][name]), name
    for name in ("previous_action", "previous_reward", "is_first"):
        assert torch.equal(one["actor"]["row"][name], other["actor"]["row"][name])
    losses = [[row["loss/future"] for row in read_rows(made.metrics)] for made in (straight, run)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("kind", list(SPACES))
def test_a_trained_agent_is_evaluated_beside_chance(config_of, tmp_path, kind):
    run = train(config_of(kind, 2), tmp_path / "run", show_progress=False)
    found = evaluate(run.path, episodes=64, show_progress=False)["returns"]
    assert set(found) == {"agent", "random"}
    assert 0.0 < found["random"]["mean"] < 2.0
