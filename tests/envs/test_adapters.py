"""Whoever made the environment: every transition arrives once, and none that was not made."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from groundling.envs.adapters import make_vector, same_step
from groundling.envs.errors import UserError

OBSERVATIONS = spaces.Dict(
    {"count": spaces.Box(0, 10_000, (2,), np.int64), "steps": spaces.Discrete(10_000)}
)
"""How often it was reset and stepped since, and steps in all."""


class Counting(gymnasium.Env):
    """Counts its resets and steps, is rewarded with its count, and remembers what happened."""

    observation_space = OBSERVATIONS
    action_space = spaces.Discrete(5)

    def __init__(self, number=0):
        self.number, self.resets, self.steps, self.log, self.firsts = number, 0, 0, [], []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.resets += 1
        self.count = 0
        self.firsts.append(self.now())
        return self._observation(), {"reset": True}

    def step(self, action):
        before = self.now()
        self.count += 1
        self.steps += 1
        # Episodes of 1 to 4 steps, of different lengths in different copies.
        over = self.count == 1 + (self.number + self.resets) % 4
        terminated = over and self.resets % 2 == 0
        truncated = over and self.resets % 3 > 0
        over = terminated or truncated
        self.log.append((before, int(action), float(self.steps), self.now(), over))
        return self._observation(), float(self.steps), terminated, truncated, {}

    def now(self):
        return self.resets, self.count, self.steps

    def _observation(self):
        return {"count": np.array([self.resets, self.count]), "steps": self.steps}


def seen(observation, row):
    return (*(int(x) for x in observation["count"][row]), int(observation["steps"][row]))


def walk(environment, steps=60):
    """Walks, and reconstructs from what the trainer gets: transitions and first rows, by row."""
    generator = np.random.default_rng(0)
    rows = range(environment.num_envs)
    transitions, firsts = [[] for _ in rows], [[] for _ in rows]
    observation, info = environment.reset(seed=3)
    nobody = np.zeros(environment.num_envs, np.bool_)
    absent, begins = info.get("absent", nobody), ~nobody
    for _ in range(steps):
        actions = generator.integers(5, size=environment.num_envs)
        old, old_absent = [seen(observation, row) for row in rows], absent.copy()
        for row in np.flatnonzero(begins & ~absent):
            firsts[row].append(old[row])
        observation, reward, terminated, truncated, info = environment.step(actions)
        absent = info.get("absent", nobody)
        ended = terminated | truncated
        begins = ended | old_absent
        for row in np.flatnonzero(~old_absent):
            new = seen(observation, row)
            if ended[row]:
                assert info["_final_obs"][row]
                final = info["final_obs"][row]
                new = (*(int(x) for x in final["count"]), int(final["steps"]))
            transitions[row].append(
                (old[row], int(actions[row]), float(reward[row]), new, bool(ended[row]))
            )
        assert not (ended & old_absent).any()
        assert environment.observation_space.contains(observation)
    return transitions, firsts


def batch(mode, kind=SyncVectorEnv):
    copies = [Counting(number) for number in range(4)]
    # The same arrays at every step: nothing may be kept that the environment writes into again.
    return kind([lambda copy=copy: copy for copy in copies], copy=False, autoreset_mode=mode)


class Rough(SyncVectorEnv):
    """A masked reset gives nonsense in other rows and clears what the step gave; a step that only
    resets says nonsense."""

    def reset(self, *, seed=None, options=None):
        mask = None if options is None else options["reset_mask"].copy()
        observation, info = super().reset(seed=seed, options=options)
        if mask is not None:
            observation["count"][~mask] = 777
            observation["steps"][~mask] = 777
            for array in self._given:
                array[:] = 0
        return observation, info

    def step(self, actions):
        resetting = self._autoreset_envs.copy()
        observation, reward, terminated, truncated, info = super().step(actions)
        reward[resetting] = 777.0
        truncated |= resetting
        self._given = reward, terminated, truncated
        return observation, reward, terminated, truncated, info


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        (AutoresetMode.SAME_STEP, SyncVectorEnv),
        (AutoresetMode.NEXT_STEP, SyncVectorEnv),
        (AutoresetMode.NEXT_STEP, Rough),
        (AutoresetMode.DISABLED, SyncVectorEnv),
        (AutoresetMode.DISABLED, Rough),
    ],
)
def test_no_transition_is_lost_or_invented_in_any_autoreset_mode(mode, kind):
    environment = same_step(batch(mode, kind), "Tests/Counting-v0")
    assert environment.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    transitions, firsts = walk(environment)
    for copy, made, began in zip(environment.unwrapped.envs, transitions, firsts, strict=True):
        assert made == copy.log
        assert len(made) > 30
        # The last reset may not have been acted in yet.
        assert began == copy.firsts[: len(began)]
        assert len(began) >= len(copy.firsts) - 1


@pytest.mark.parametrize("kind", [SyncVectorEnv, Rough])
def test_a_row_is_absent_for_exactly_the_step_that_resets_it(kind):
    environment = same_step(batch(AutoresetMode.NEXT_STEP, kind), "Tests/Counting-v0")
    _, info = environment.reset(seed=0)
    assert info["absent"].tolist() == [False] * 4
    ended = np.zeros(4, np.bool_)
    for _ in range(30):
        before = ended
        _, reward, terminated, truncated, info = environment.step(np.zeros(4, np.int64))
        ended = terminated | truncated
        assert info["absent"].tolist() == ended.tolist()
        assert not (before & ended).any()
        assert not reward[before].any()


def test_resetting_anew_leaves_nobody_absent():
    environment = same_step(batch(AutoresetMode.NEXT_STEP), "Tests/Counting-v0")
    environment.reset(seed=0)
    while not environment.step(np.zeros(4, np.int64))[4]["absent"].any():
        pass
    environment.reset(seed=0)
    _, reward, *_ = environment.step(np.zeros(4, np.int64))
    assert reward.all()


def test_single_environments_lose_and_invent_nothing_either(register):
    numbers = iter(range(4))
    register("Tests/Counting-v0", lambda: Counting(next(numbers)), disable_env_checker=True)
    environment = make_vector("Tests/Counting-v0", 4, {})
    transitions, _ = walk(environment)
    assert transitions == [copy.unwrapped.log for copy in environment.unwrapped.envs]


class Overwriting(Counting):
    """Writes every observation into the same array."""

    def __init__(self, number):
        super().__init__(number)
        self.array = np.zeros(2, np.int64)

    def _observation(self):
        self.array[:] = self.resets, self.count
        return {"count": self.array, "steps": self.steps}


def test_a_reset_does_not_write_over_the_final_observation(register):
    numbers = iter(range(4))
    register("Tests/Counting-v0", lambda: Overwriting(next(numbers)), disable_env_checker=True)
    environment = make_vector("Tests/Counting-v0", 4, {})
    transitions, _ = walk(environment)
    assert transitions == [copy.unwrapped.log for copy in environment.unwrapped.envs]


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
def test_an_environments_own_vector_form_is_used_in_any_mode(register, mode):
    register(
        "Tests/Counting-v0",
        Counting,
        vector_entry_point=lambda num_envs: batch(mode, SyncVectorEnv),
    )
    environment = make_vector("Tests/Counting-v0", 4, {})
    transitions, _ = walk(environment)
    assert transitions == [copy.log for copy in environment.unwrapped.envs]


def test_cart_poles_own_vector_form_is_used():
    environment = make_vector("CartPole-v1", 2, {"max_episode_steps": 4})
    assert type(environment.unwrapped).__name__ == "CartPoleVectorEnv"
    environment.reset(seed=0)
    ends = []
    for _ in range(10):
        *_, truncated, info = environment.step(np.zeros(2, np.int64))
        ends.append(truncated.tolist())
        assert ("final_obs" in info) == truncated.any()
    assert [i for i, one in enumerate(ends) if any(one)] == [3, 8]


class Modeless(VectorEnv):
    """Exists as a batch only, and does not say how it resets."""

    single_observation_space = observation_space = spaces.Discrete(2)
    single_action_space = action_space = spaces.Discrete(2)
    spec = EnvSpec("Tests/Modeless-v0", vector_entry_point="x")


def test_a_batch_that_does_not_say_how_it_resets_is_refused():
    with pytest.raises(UserError, match=r"resets in mode None; expected .*AutoresetMode"):
        same_step(Modeless(), "Tests/Modeless-v0")


class Telling(Counting):
    """Says in info which step of its episode it shows."""

    def reset(self, *, seed=None, options=None):
        observation, _ = super().reset(seed=seed, options=options)
        return observation, {"label": int(observation["count"][1])}

    def step(self, action):
        observation, reward, terminated, truncated, _ = super().step(action)
        return observation, reward, terminated, truncated, {"label": int(observation["count"][1])}


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_what_is_told_beside_a_row_is_told_of_that_very_row_in_any_autoreset_mode(mode):
    copies = [Telling(number) for number in range(4)]
    kind = SyncVectorEnv([lambda copy=copy: copy for copy in copies], autoreset_mode=mode)
    environment = same_step(kind, "Tests/Telling-v0")
    observation, info = environment.reset(seed=3)
    nobody, ends, generator = np.zeros(4, np.bool_), 0, np.random.default_rng(0)
    for _ in range(60):
        here = ~info.get("absent", nobody)
        assert info["_label"][here].all()
        assert (info["label"][here] == observation["count"][here, 1]).all()
        actions = generator.integers(5, size=4)
        observation, _, terminated, truncated, info = environment.step(actions)
        ends += int((terminated | truncated).sum())
    assert ends > 5
