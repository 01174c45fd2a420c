"""Several agents in one world: each a row, out when its episode is over, back when all are."""

import itertools

import numpy as np
import pytest
from gymnasium import spaces

from groundling.envs.errors import UserError
from groundling.envs.parallel import ParallelVectorEnv

NAME = "tests:house"
AGENTS = ("ann", "bob", "cat")


class House:
    """A parallel environment that counts: observations are (reset, step, agent), from 1 on.

    Ann's episode is the longest; Bob falls out earlier; Cat joins after a step, and not every time.
    It remembers each agent's transitions and hands out the same arrays again and again.
    """

    possible_agents = list(AGENTS)  # noqa: RUF012
    metadata = {"name": "house"}  # noqa: RUF012

    def __init__(self, fault=None):
        self.fault, self.resets, self.seeds, self.log = fault, 0, [], []
        self.space = spaces.Box(1, 1000, (3,), np.int64)
        self.buffers = {agent: np.ones(3, np.int64) for agent in AGENTS}

    def observation_space(self, agent):
        return self.space

    def action_space(self, agent):
        return spaces.Discrete(4, start=1)

    def reset(self, seed=None, options=None):
        self.seeds.append(seed)
        self.resets += 1
        self.count = 1
        self.agents = ["ann", "bob"]
        return self._seen(self.agents), {agent: {} for agent in self.agents}

    def step(self, actions):
        assert set(actions) == set(self.agents)
        before = {agent: self._now(agent) for agent in actions}
        self.count += 1
        last = 2 + self.resets % 3
        terminated = {agent: agent == "bob" and self.count > 2 for agent in actions}
        truncated = {agent: self.count > last and not terminated[agent] for agent in actions}
        rewards = {agent: float(self.resets * 100 + self.count) for agent in actions}
        for agent, action in actions.items():
            over = terminated[agent] or truncated[agent]
            self.log.append(
                (agent, before[agent], int(action), rewards[agent], self._now(agent), over)
            )
        self.agents = [agent for agent in actions if not (terminated[agent] or truncated[agent])]
        if self.count == 2 and self.resets % 2 and self.agents:
            self.agents.append("cat")
        observations = self._seen({*actions, *self.agents})
        return observations, rewards, terminated, truncated, {agent: {} for agent in actions}

    def _now(self, agent):
        return self.resets, self.count, 1 + AGENTS.index(agent)

    def _seen(self, agents):
        for agent in agents:
            self.buffers[agent][:] = self._now(agent)
        return {agent: self.buffers[agent] for agent in agents}

    def close(self):
        self.resets = -1


def test_no_transition_of_any_agent_is_lost_or_invented():
    environment = ParallelVectorEnv([House(), House()], NAME)
    assert environment.num_envs == 6
    generator = np.random.default_rng(0)
    observation, info = environment.reset(seed=7)
    absent, begins, made = info["absent"], np.ones(6, np.bool_), [[] for _ in range(6)]
    assert absent.tolist() == [False, False, True] * 2
    assert environment.observation_space.contains(observation)
    for _ in range(60):
        old, old_absent, action = observation.copy(), absent, generator.integers(1, 5, size=6)
        for row in np.flatnonzero(begins & ~absent):
            assert old[row, 1] == 1 or row % 3 == 2  # Cat comes later.
        observation, reward, terminated, truncated, info = environment.step(action)
        assert environment.observation_space.contains(observation)
        absent, ended = info["absent"], terminated | truncated
        begins = ended | old_absent
        assert not (ended & old_absent).any()
        assert not reward[old_absent].any()
        for row in np.flatnonzero(~old_absent):
            new = info["final_obs"][row] if ended[row] else observation[row]
            assert info.get("_final_obs", np.zeros(6, np.bool_))[row] == ended[row]
            made[row].append(
                (
                    AGENTS[row % 3],
                    tuple(map(int, old[row])),
                    int(action[row]),
                    float(reward[row]),
                    tuple(map(int, new)),
                    bool(ended[row]),
                )
            )
    for number, copy in enumerate(environment.copies):
        logged = copy.environment.log
        rows = made[3 * number : 3 * number + 3]
        assert [len(one) for one in rows] == [
            sum(x[0] == agent for x in logged) for agent in AGENTS
        ]
        assert sorted(itertools.chain(*rows)) == sorted(logged)
        assert len(rows[2]) > 5


def test_copies_have_seeds_of_their_own_and_later_episodes_none():
    environment = ParallelVectorEnv([House(), House()], NAME)
    environment.reset(seed=7)
    for _ in range(5):
        environment.step(np.ones(6, np.int64))
    seeds = [copy.environment.seeds for copy in environment.copies]
    assert [one[0] for one in seeds] == [7, 8]
    assert set(seeds[0][1:]) == {None}
    environment.close()
    assert environment.copies[1].environment.resets == -1


class Different(House):
    def action_space(self, agent):
        return spaces.Discrete(4 if agent == "bob" else 5)


class Loses(House):
    def step(self, actions):
        result = super().step(actions)
        self.agents = []
        return result


class Mute(House):
    def step(self, actions):
        observations, *rest = super().step(actions)
        del observations["ann"]
        return observations, *rest


class Nobody(House):
    def reset(self, seed=None, options=None):
        result = super().reset(seed)
        self.agents = []
        return result


class Stranger(House):
    def reset(self, seed=None, options=None):
        result = super().reset(seed)
        self.agents = [*self.agents, "dan"]
        return result


class Rewardless(House):
    def step(self, actions):
        observations, rewards, *rest = super().step(actions)
        return observations, dict.fromkeys(rewards, np.zeros(2)), *rest


class Wide(House):
    def _seen(self, agents):
        return {agent: np.ones(2 + self.count, np.int64) for agent in agents}


class Raises(House):
    def step(self, actions):
        raise KeyError("no such\ndoor")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Different, r"the action space of bob is Discrete\(4\), that of ann Discrete\(5\); expect"),
        (Loses, "ann is gone, neither terminated nor truncated"),
        (Mute, "step gave ann no observation"),
        (Nobody, "nobody is there after reset"),
        (Stranger, "dan is none of its possible_agents"),
        (Rewardless, r"reward is array\(\[0., 0.\]\); expected one number"),
        (Wide, r"observation 'observation' has shape \(4,\); its space says \(3,\)"),
        (Raises, r"raised KeyError in step: 'no such\\ndoor' \(.*test_parallel.py:\d+\)"),
    ],
)
def test_what_a_house_does_wrong_is_named(kind, expected):
    def walk():
        environment = ParallelVectorEnv([kind()], NAME)
        environment.reset(seed=0)
        environment.step(np.ones(3, np.int64))

    with pytest.raises(UserError, match=f"environment {NAME}.*{expected}") as refused:
        walk()
    assert "\n" not in str(refused.value)


class Lingers(House):
    """Goes on listing agents whose episodes are over, as long as anybody's is not."""

    def step(self, actions):
        there, self.agents = self.agents, list(actions)
        *result, info = super().step(actions)
        if self.agents:
            self.agents = list(dict.fromkeys([*there, *self.agents]))
        return *result, info


def test_an_agent_whose_episode_is_over_is_out_whatever_else_is_said():
    environment = ParallelVectorEnv([Lingers()], NAME)
    environment.reset(seed=0)
    _, _, terminated, _, info = environment.step(np.ones(3, np.int64))
    _, _, terminated, _, info = environment.step(np.ones(3, np.int64))
    assert terminated.tolist() == [False, True, False]
    assert info["absent"].tolist() == [False, True, False]
    environment.step(np.ones(3, np.int64))
    assert "bob" not in [agent for agent, *_ in environment.copies[0].environment.log[-2:]]
