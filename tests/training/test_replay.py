"""Slow replays of real environments: what an unroll says is what happened, step by step."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from groundling.agents.agent import Rows
from groundling.training.actor import Actor, observe
from groundling.training.environments import make_environment
from groundling.training.run import make_agent
from groundling.training.unroll import transitions

T, SEED = 5, 3


def make_actor(config):
    return Actor(
        make_environment(config.env),
        make_agent(config, torch.device("cpu")),
        seed=SEED,
        generator=torch.Generator().manual_seed(1),
        question_generator=np.random.default_rng(5),
    )


REAL = {
    "rooms": {"id": "Groundling/Explore-v0"},
    # Cut off early, so that some episodes end by themselves and some do not. Its own vector form
    # takes a step to reset: then a row is absent.
    "cartpole": {"id": "CartPole-v1", "options": {"max_episode_steps": 16}},
}
UNROLLS = 12


@pytest.fixture(scope="module", params=list(REAL))
def real(request, small_config):
    """A small agent in a real environment: its configuration, itself, and what it walked."""
    config = small_config(env=REAL[request.param])
    actor = make_actor(config)
    return config.env, actor.agent, [actor.collect(T) for _ in range(UNROLLS)], actor


class Replay:
    """Walks an environment again, one remembered episode per environment, slowly."""

    def __init__(self, config, agent):
        self.agent = agent
        self.environment = make_environment(config)
        self.observation, _ = self.environment.reset(seed=SEED)
        self.episodes = [self._first(i) for i in range(config.num_envs)]
        self.absent = np.zeros(config.num_envs, bool)

    def _leaves(self, observation, i):
        return {name: leaf[i] for name, leaf in observe(observation, torch.device("cpu")).items()}

    def _first(self, i):
        return [(self._leaves(self.observation, i), True, 0, 0.0)]

    def step(self, actions):
        """Ends of the step and V(final observation) where truncated, [B] each."""
        self.observation, rewards, terminated, truncated, info = self.environment.step(actions)
        values = np.zeros(len(actions))
        before, self.absent = self.absent, info.get("absent", np.zeros(len(actions), bool))
        for i, episode in enumerate(self.episodes):
            if before[i]:
                self.episodes[i] = self._first(i)
                continue
            if not (terminated[i] or truncated[i]):
                leaves = self._leaves(self.observation, i)
                episode.append((leaves, False, int(actions[i]), rewards[i]))
                continue
            if truncated[i] and not terminated[i]:
                leaves = self._final(info["final_obs"][i])
                values[i] = self._value([*episode, (leaves, False, int(actions[i]), rewards[i])])
            self.episodes[i] = self._first(i)
        return terminated, truncated & ~terminated, values

    def _final(self, final):
        return {
            name: leaf[0] for name, leaf in observe(batched(final), torch.device("cpu")).items()
        }

    def _value(self, episode):
        """V of the last row of a whole episode, read from the initial state."""
        leaves, firsts, actions, rewards = zip(*episode, strict=True)
        rows = Rows(
            {name: torch.stack([leaf[name] for leaf in leaves])[:, None] for name in leaves[0]},
            torch.tensor(firsts)[:, None],
            torch.tensor(actions)[:, None],
            torch.tensor(rewards, dtype=torch.float32)[:, None],
        )
        with torch.no_grad():
            return self.agent.unroll(rows, self.agent.initial_state(1)).baseline[-1].item()


def batched(observation):
    if isinstance(observation, dict):
        return {name: np.asarray(leaf)[None] for name, leaf in observation.items()}
    return observation[None]


def test_a_slow_replay_of_real_environments_gives_the_same_rows_and_values(real):
    config, agent, walked, _ = real
    replay, ends = Replay(config, agent), [0, 0]
    for unroll in walked:
        for t in range(T):
            for i, episode in enumerate(replay.episodes):
                leaves, is_first, _, _ = episode[-1]
                assert unroll.rows.is_first[t, i].item() == is_first
                for name, leaf in leaves.items():
                    assert torch.equal(unroll.rows.observation[name][t, i], leaf)
            actions = unroll.rows.previous_action[t + 1].numpy()
            assert unroll.absent[t].tolist() == replay.absent.tolist()
            terminated, truncated, values = replay.step(actions)
            assert unroll.terminated[t].tolist() == terminated.tolist()
            assert unroll.truncated[t].tolist() == truncated.tolist()
            expected = torch.from_numpy(values).float()
            assert_close(unroll.bootstrap_value[t], expected, atol=1e-5, rtol=0)
            ends = [ends[0] + terminated.sum(), ends[1] + truncated.sum()]
    assert ends[1] > 0
    assert config.is_rooms or ends[0] > 0


def test_the_learner_sees_what_the_actor_saw(real):
    """Reading an unroll again gives the actor's log-probabilities and its next core state."""
    _, agent, walked, actor = real
    after = [unroll.core_state for unroll in walked[1:]] + [actor.core_state]
    for unroll, state in zip(walked, after, strict=True):
        with torch.no_grad():
            output = agent.unroll(unroll.rows, unroll.core_state)
        actions = transitions(unroll, 0.9).actions
        log_probs = agent.actions.log_probs(output.policy[:-1], actions)
        assert_close(log_probs, unroll.behaviour_log_prob, atol=1e-5, rtol=0)
        # The actor has not read the last row yet.
        assert_close(output.core.hidden[-2], state.hidden, atol=1e-5, rtol=0)
        assert_close(output.core.cell[-2], state.cell, atol=1e-5, rtol=0)


def test_questions_are_asked_about_the_world_of_their_row(small_config):
    """The oracle, asked again at the recorded row of a replay, says the same."""
    config = small_config()
    actor = make_actor(config)
    replay, generator = make_environment(config.env), np.random.default_rng(5)
    replay.reset(seed=SEED)
    for _ in range(4):
        unroll = actor.collect(T, ask=True)
        row = int(generator.integers(T))
        for t in range(T):
            if t == row:
                expected = replay.unwrapped.ask(generator)
            replay.step(unroll.rows.previous_action[t + 1].numpy())
        asked = unroll.questions
        assert len(asked.answer) > 0
        assert (asked.row == row).all()
        for name, theirs in (("environment", "world"), *((f, f) for f in asked._fields[2:])):
            assert getattr(asked, name).tolist() == getattr(expected, theirs).tolist(), name
        unasked = actor.collect(T)
        assert unasked.questions is None
        for actions in unasked.rows.previous_action[1:]:
            replay.step(actions.numpy())
