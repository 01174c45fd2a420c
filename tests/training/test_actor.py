"""The counter test: rows, resets, core states and bootstrap values line up.

An environment that counts its steps and an agent that counts its calls know, at every row, what
the other must have counted (after torchbeast's).
"""

from itertools import pairwise
from types import SimpleNamespace
from typing import NamedTuple

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.testing import assert_close

from groundling.agents.actions import make_actions
from groundling.agents.agent import Rows
from groundling.agents.cores import CoreState
from groundling.training.actor import Actor
from groundling.training.config import EnvironmentConfig
from groundling.training.environments import make_environment

T, B, UNROLLS, SEED = 5, 4, 8, 3
FIRST_ACTION = 5
COUNTING = "Tests/Counting-v0"

LENGTHS = (3, 1, 4, 2, 6)
ENDS = ("terminated", "truncated", "both")


def plan(seed, episode):
    """How long an episode is and how it ends; every pair occurs."""
    return LENGTHS[(seed + episode) % 5], ENDS[(seed + episode) % 3]


class Counting(gymnasium.Env):
    """Observes its step, its episode and the action that led here; reward 8 · episode + step."""

    observation_space = spaces.Box(-1, 1e6, (3,), np.float32)
    action_space = spaces.Discrete(3, start=FIRST_ACTION)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.seed, self.episode = seed, -1
        self.episode, self.count = self.episode + 1, 0
        return self._observation(-1), {}

    def step(self, action):
        self.count += 1
        length, end = plan(self.seed, self.episode)
        over = self.count == length
        reward = 8.0 * self.episode + self.count
        terminated, truncated = over and end != "truncated", over and end != "terminated"
        return self._observation(action), reward, terminated, truncated, {}

    def _observation(self, action):
        return np.array([self.count, self.episode, action], np.float32)


class Expected(NamedTuple):
    """What must stand in one row, and how the step that led there ended."""

    count: int
    episode: int
    reward: float
    ended: str | None
    read_before: int
    """Rows of the same episode read before this one; at a first row those of the last episode."""


def expected_rows(seed, number):
    """The rows of the environment of one seed, from its plan alone."""
    rows = [Expected(0, 0, 0.0, None, 0)]
    while len(rows) < number:
        count, episode = rows[-1].count + 1, rows[-1].episode
        length, end = plan(seed, episode)
        reward = 8.0 * episode + count
        if count == length:
            rows.append(Expected(0, episode + 1, reward, end, count))
        else:
            rows.append(Expected(count, episode, reward, None, count))
    return rows


class CountingAgent(torch.nn.Module):
    """Its state counts the rows of the episode and sums their rewards; its value tells it all."""

    actions = make_actions(Counting.action_space)
    attention = None
    policy = torch.tensor([0.5, 0.3, 0.2]).log()

    def initial_state(self, batch):
        return CoreState(torch.zeros(batch, 1), torch.zeros(batch, 1))

    def act(self, row, state, trace=None):
        return self.step(row, state)

    def step(self, row, state):
        calls = state.hidden[:, 0].masked_fill(row.is_first, 0.0) + 1
        before = state.cell[:, 0].masked_fill(row.is_first, 0.0)
        earned = before + row.previous_reward.masked_fill(row.is_first, 0.0)
        state = CoreState(calls[:, None], earned[:, None])
        count = row.observation["observation"][:, 0]
        value = value_of(count, calls, row.previous_action, row.is_first, row.previous_reward)
        return SimpleNamespace(policy=self.policy.expand(len(calls), 3), baseline=value), state


def value_of(count, calls, previous_action, is_first, previous_reward):
    """A number from which each argument can be told: the digits of one float."""
    return count + 8 * calls + 64 * previous_action + 256 * is_first + 512 * previous_reward


@pytest.fixture(scope="module")
def counting():
    gymnasium.register(COUNTING, entry_point=Counting)
    yield EnvironmentConfig(id=COUNTING, num_envs=B)
    del gymnasium.registry[COUNTING]


def make_actor(config, staggered=False):
    return Actor(
        make_environment(config),
        CountingAgent(),
        seed=SEED,
        generator=torch.Generator().manual_seed(1),
        staggered=staggered,
    )


@pytest.fixture(scope="module")
def unrolls(counting):
    actor = make_actor(counting)
    return [actor.collect(T, policy_version=version) for version in range(UNROLLS)]


@pytest.fixture(scope="module")
def rows():
    """[row][environment]: what must be seen."""
    by_environment = [expected_rows(SEED + i, UNROLLS * T + 1) for i in range(B)]
    return list(zip(*by_environment, strict=True))


def all_rows(unrolls):
    """The rows of consecutive unrolls joined, the shared ones once: [UNROLLS · T + 1, B]."""
    parts = [unroll.rows for unroll in unrolls]
    observation = [part.observation["observation"][:-1] for part in parts]
    last = parts[-1].observation["observation"][-1:]
    fields = [
        torch.cat([*(part[i][:-1] for part in parts), parts[-1][i][-1:]]) for i in range(1, 4)
    ]
    return Rows({"observation": torch.cat([*observation, last])}, *fields)


def test_the_plan_has_every_kind_of_end_inside_the_unrolls(rows):
    seen = {(row.ended, t % T) for t, step in enumerate(rows) for row in step if row.ended}
    assert {end for end, _ in seen} == set(ENDS)
    assert {(end, 0) for end in ENDS} <= seen  # also in the row that two unrolls share


def test_the_last_row_of_an_unroll_is_the_first_of_the_next(unrolls):
    for one, following in pairwise(unrolls):
        last, first = one.rows, following.rows
        assert last.observation.keys() == first.observation.keys()
        for name in last.observation:
            assert torch.equal(last.observation[name][-1], first.observation[name][0])
        for i in range(1, 4):
            assert torch.equal(last[i][-1], first[i][0])


def test_observations_and_starts_of_episodes_are_those_of_the_environment(unrolls, rows):
    seen = all_rows(unrolls)
    steps = seen.observation["observation"]
    assert steps.shape == (UNROLLS * T + 1, B, 3)
    for t, expected in enumerate(rows):
        assert steps[t, :, 0].tolist() == [row.count for row in expected]
        assert steps[t, :, 1].tolist() == [row.episode for row in expected]
        assert seen.is_first[t].tolist() == [row.count == 0 for row in expected]


def test_the_final_observation_of_an_episode_is_in_no_row(unrolls):
    for count, episode, i in numbered(all_rows(unrolls).observation["observation"]):
        assert count < plan(SEED + i, int(episode))[0]


def numbered(steps):
    for row in steps:
        for i, (count, episode, _) in enumerate(row.tolist()):
            yield count, episode, i


def test_each_row_holds_the_action_and_reward_that_led_there(unrolls, rows):
    seen = all_rows(unrolls)
    inside = ~seen.is_first
    told = seen.observation["observation"][..., 2][inside]  # what the environment was given
    assert torch.equal(seen.previous_action[inside] + FIRST_ACTION, told.long())
    assert seen.previous_action.unique().tolist() == [0, 1, 2]
    for t, expected in enumerate(rows[1:], start=1):
        assert seen.previous_reward[t].tolist() == [row.reward for row in expected]


def test_a_step_both_terminated_and_truncated_counts_as_terminated(unrolls, rows):
    terminated = torch.cat([unroll.terminated for unroll in unrolls])
    truncated = torch.cat([unroll.truncated for unroll in unrolls])
    for t, expected in enumerate(rows[1:]):  # the flags of step t belong to row t + 1
        assert terminated[t].tolist() == [row.ended in ("terminated", "both") for row in expected]
        assert truncated[t].tolist() == [row.ended == "truncated" for row in expected]


def test_the_core_state_has_read_every_row_of_the_episode_and_nothing_else(unrolls, rows):
    for n, unroll in enumerate(unrolls):
        for i, row in enumerate(rows[n * T]):
            assert unroll.core_state.hidden[i].item() == row.read_before
            episode = row.episode - 1 if row.count == 0 else row.episode
            # Not the reward that came with row 0 itself, nor that of a final observation.
            earned = sum(8.0 * episode + k for k in range(1, row.read_before))
            assert unroll.core_state.cell[i].item() == earned


def test_only_truncated_steps_bootstrap_and_from_their_final_observation(unrolls, rows):
    seen = all_rows(unrolls)
    bootstraps = torch.cat([unroll.bootstrap_value for unroll in unrolls])
    assert bootstraps.dtype == torch.float32
    for t, expected in enumerate(rows[1:]):
        for i, row in enumerate(expected):
            value = 0.0
            if row.ended == "truncated":
                length = row.read_before  # the final observation is the row after so many
                action = seen.previous_action[t + 1, i].item()
                value = value_of(length, length + 1, action, False, row.reward)
            assert bootstraps[t, i].item() == value


def test_log_probabilities_are_those_of_the_actions_taken(unrolls):
    for unroll in unrolls:
        taken = unroll.rows.previous_action[1:]
        assert_close(unroll.behaviour_log_prob, CountingAgent.policy[taken])


def test_an_unroll_knows_which_policy_acted(unrolls):
    assert [unroll.policy_version for unroll in unrolls] == list(range(UNROLLS))


def finished_episodes(i, skipped):
    rows = expected_rows(SEED + i, UNROLLS * T + 1)
    ended = [(row.episode - 1, row.read_before) for row in rows if row.ended]
    return [
        (sum(8.0 * episode + k for k in range(1, length + 1)), length)
        for episode, length in ended[skipped:]
    ]


@pytest.mark.parametrize("staggered", [False, True])
def test_finished_episodes_are_reported_but_for_first_ones_begun_in_the_middle(counting, staggered):
    actor = make_actor(counting, staggered=staggered)
    for _ in range(UNROLLS):
        actor.collect(T)
    expected = [one for i in range(B) for one in finished_episodes(i, skipped=int(staggered))]
    assert sorted(actor.finished) == sorted(expected)


def test_nothing_that_the_actor_hands_out_is_written_again(counting):
    actor = make_actor(counting)
    unroll = actor.collect(T)
    copy = [leaf.clone() for leaf in tensors_of(unroll)]
    actor.collect(T)
    assert all(torch.equal(a, b) for a, b in zip(tensors_of(unroll), copy, strict=True))


def tensors_of(value):
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for one in value.values() for tensor in tensors_of(one)]
    return [t for one in value for t in tensors_of(one)] if isinstance(value, tuple) else []


def test_an_environment_that_cannot_be_restored_goes_on_with_episodes_of_other_seeds(counting):
    """Or a run that is often interrupted would meet its first episodes again and again."""

    def seeds(actor):
        return {copy.unwrapped.seed for copy in actor.environment.unwrapped.envs}

    actor = make_actor(counting)
    met = seeds(actor)
    for _ in range(3):
        actor.collect(T)
        state = actor.state_dict()
        actor = make_actor(counting)
        actor.load_state_dict(state)
        assert len(seeds(actor)) == B
        assert not seeds(actor) & met
        assert actor.row.is_first.all()
        assert (actor.row.observation["observation"][:, 0] == 0).all()
        met |= seeds(actor)
    again = make_actor(counting)
    again.load_state_dict(state)
    assert seeds(again) == seeds(actor)
